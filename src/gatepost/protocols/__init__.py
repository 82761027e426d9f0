"""Wire protocols as machines without IO: bytes in, events out; a reply in, bytes out.

  smtp/   SMTP and LMTP, server and client (RFC 5321, RFC 2033 and their extensions)
  sasl/   SASL mechanisms, server and client halves (RFC 4422)

Nothing here opens a socket, reads a clock or knows who lives here, so every path can be walked in a test byte by byte.
Every parser is total: any bytes give an event or a refusal, within bounded memory.
"""
