"""Delivery: from the queue to the next hop or the mailbox, and what the sender is told of it.

  scheduler.py         every message in memory: taken from the queue, grouped by route, handed to destinations; shutdown
  destination.py       one next hop: what waits for it, how many connections it gets, when it counts as dead
  connection_slots.py  the limit on all connections together, shared out in turn
  agent.py             what an agent is and is given: Delivery, Work, Agent, BatchAgent
  to_remote.py         agent for SMTP: hosts in order, kept connections, what goes over one connection
  next_hop.py          the text of a next hop -> addresses: MX, preferences, null MX, ourselves
  handshake.py         connect, greeting, EHLO, STARTTLS: a connection ready for mail
  connection.py        one connection: socket, time limits, the body at the socket's own speed
  answers.py           what a next hop answered -> outcomes, in Postfix's words
  to_maildir.py        agent for our own mailboxes, in batches
  results.py           outcomes -> events, queue, reports
  dsn.py, dsn_text.py  reports to senders (RFC 3464)

A message's way: Scheduler.submit -> Destination.submit -> Work.take by an agent -> Work.finish -> Results.ended ->
QueueShard.finish. On this way nothing is awaited per message and no task is made.

Invariants:
- Delivered is only what the next hop answered 2yz to after the whole content, or what is synced in a mailbox.
- A job leaves the queue for a failure only after the report of it is on disk, or nobody is to be told.
- A job is in one delivery at a time, and every delivery an agent took ends with one outcome per job, or, when the server
  stops before, goes back to the queue.
- 4yz to one message or recipient never slows others down; only a site that cannot be used does.
"""
