"""Sockets, names and TLS: what stands between Gatepost and the network.

  listener.py           sockets to listen on, and who holds a port that is taken
  dns.py                the questions mail asks of DNS (MX, addresses, a client's name); resolver with cache
  dns_zone.py           DNS without the internet: a fake from dicts, and a small name server on loopback
  tls_contexts.py       TLS contexts: SNI choice among certificates, renewed files picked up, next hops, facts
  own_ca.py             our own certificate authority: make, request, sign, issue, renew, show
  certificate_files.py  the CA's PEM files: read strictly, written whole or not at all

Invariants: nothing here blocks an event loop for longer than reading a few small files takes. dnspython and
cryptography are imported when first needed, not when a worker starts. A private key is never written readable by
others and never replaced unless told to.
"""
