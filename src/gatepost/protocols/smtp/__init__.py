"""SMTP and LMTP without IO.

  states.py      state × command: which verb is legal when, and what is said when it is not
  lines.py       received bytes -> command lines; strict CRLF, bounded
  commands.py    a command line -> one frozen value per verb
  parameters.py  MAIL and RCPT parameters: SIZE BODY SMTPUTF8 RET ENVID AUTH, NOTIFY ORCPT
  content.py     DATA (dot-stuffed, ends with CRLF.CRLF and nothing else) and BDAT content, streamed
  server.py      the server machine: SMTP, submission and LMTP
  replies.py     a peer's reply lines -> Reply
  client.py      the client machine
  client_events.py  what it learns and tells

A session is a connection; a transaction is one MAIL…end of data. The server machine owns both states; whoever drives it
(servers/) judges each event and answers it.
"""
