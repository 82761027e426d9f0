"""The only door into the queue. All mail comes in here: from a session, and our own reports too.

  headers.py    what is put on top of a message and what a submission lacks; foreign bytes are never rewritten
  incoming.py   Incoming: one message on its way in, piece by piece; header block checked, body kept
  accept.py     Intake: opens Incomings, makes the jobs, commits, tells delivery

A message is accepted when `Incoming.commit` returns: then, and not before, it is on disk.
"""
