"""SASL without IO: who proves what to whom, in which order (RFC 4422).

  exchange.py     a mechanism is a generator of Challenge and Need; ServerExchange and ClientExchange drive it
  plain.py        PLAIN (RFC 4616) and LOGIN, server and client halves
  mechanisms.py   the table: name -> mechanism, what it needs, whether it sends the password in clear
  framing.py      base64 as SMTP, IMAP and POP3 carry it (RFC 4954 §4, RFC 4959, RFC 5034)

A driver (an SMTP session, say) does this with one exchange:

    step = exchange.start(initial)                 # bytes after AUTH PLAIN, decoded; None where there were none
    Challenge    -> send it, and give the decoded answer to exchange.respond
    Need         -> find it out, and give it to exchange.found
    an ending    -> Identity: logged in; Refused, Unavailable, Malformed: not

Invariants: a mechanism fetches nothing and compares no secret unless it was handed one; every message of a
peer gives a step or an ending, never an exception; no password stands in a repr, a reason or an error.
"""
