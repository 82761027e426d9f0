"""What both faces do: verbs that the command line and the web page share.

  residents.py   domains, accounts and forwards: added, changed, listed; passwords made and hashed on the way
  queue_verbs.py what people do with the queue, and what a running server is told of it
  explain.py     what would happen to this recipient or login: the live path, walked, with its steps
  furnish.py     a new home folder: settings, databases, own CA and certificate, the first account
  post.py        a message through a server, as a mail client would send it

A verb answers with what was done or found; it prints nothing.
"""
