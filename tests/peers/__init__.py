"""Strangers as witnesses: real daemons and a sink that keeps what it is sent, for the tests of every room.

  programs.py      require: the path of a program from Debian's packages, or the test is skipped and says which package
  ports.py         free_port: a loopback port that nobody uses
  sink.py          SmtpSink: takes mail on loopback and keeps envelopes and bytes exactly; can refuse, wait, hang up
  bad_next_hop.py  BadNextHop: an SMTP server that misbehaves exactly as its script says
  postfix.py       PostfixInstance: a whole Postfix in a folder of its own, ended by its own process group
  gatepost.py      GatepostInstance: a whole Gatepost as real processes, for tests/whole
  wire.py          Wire: an SMTP client that sends whatever bytes it is told to

Everything is on loopback, ends with its `with` block, and leaves no process and no file behind.
"""
