"""The words: pure values every other room speaks in. Nothing here reads a clock, a socket, a file or a setting.

  address.py    Address, Domain names: parse, normalise, compare, print
  envelope.py   Envelope, Recipient, what the sender wishes to be told (RFC 3461)
  content.py    the bytes of a message: header block found, fields read, never rebuilt
  trace.py      Received, Return-Path, Delivered-To: written and counted
  reply.py      Reply: code, enhanced status, text; what a peer is told
  outcome.py    Delivered, Deferred, Failed: how one recipient ended
  peer.py       Peer, TlsFacts, Identity: what is known of the other side
  route.py      Route: transport and next hop of one recipient
  queue_id.py   QueueId: long, sortable, never used twice
  steps.py      Steps: what led to a decision
  clock.py      Clock, handed in; FakeClock for tests

Values are frozen. Parsers are total: any input gives a value or one named error.
"""
