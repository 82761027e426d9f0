"""Who is it? Logins compared with what the directory keeps, and what the one who logged in may write as sender.

  login.py           Login: login name and password -> LoginVerdict, with the steps that led there
  sender_rights.py   SenderRights: which senders are an account's own
  passwords.py       stored passwords: made (argon2id), compared, told when they are out of date
  hashing.py         HashingPool: a few hashes at a time, off the event loop, with a bounded waiting line
  residents.py       the questions this room asks of the directory

Invariants: every answer about a login takes one hash, whoever is asked about (unknown, switched off, without a
password), and the peer is told the same; reasons are for operators only; no password stands in a step, a reason, an
error or a repr. Whatever cannot be found out is Unavailable, never a yes.
"""
