"""Where does it go?

  router.py      Router.resolve: an address -> where its mail goes, or why it cannot; with the steps that led there
  expansion.py   forwards: exact, tagged, catch-all, whole domains; chains, limits and loops
  transports.py  an address that is not ours -> transport and next hop

Routing knows the directory and nothing of who is asking: whether this peer may send there is policy's question.
"""
