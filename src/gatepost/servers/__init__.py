"""Receiving: drivers that join a protocol machine, a socket and the judgement of policy.

  smtp_service.py      SmtpService: what all sessions of one listener share
  smtp_session.py      one connection: reads, writes, TLS, time limits, error limits
  smtp_transaction.py  MAIL, RCPT and the message -> policy -> intake
  smtp_login.py        AUTH: a SASL exchange over SMTP
  client_counts.py     how many sessions each client has

A session is one task and one protocol object. It reads whatever the socket gave, answers everything in it, and writes all answers
at once; it waits only for the network, for judgement and for the disk.
"""
