"""Gatepost: a complete mail server in one Python package.

Data walks one way: socket -> protocol -> judgement -> queue -> delivery. Imports go down only, from the face people see to the
plain words; what stands on one line does not know each other (import-linter holds the house to it).

  cli/                             the command line
  admin/                           what every face does: residents, queue, explain, furnish
  service/                         settings -> objects -> processes: master, workers, control socket
  servers/      delivery/          the two ends; they meet only in the queue
  policy/       intake/            may this happen?  |  the only door into the queue
  auth/         routing/           who is it?  |  where does it go?
  directory/  queue/  mailbox/     who lives here  |  what waits  |  what is kept
  net/    storage/    observe/     sockets, DNS, TLS  |  SQLite, migrations  |  events -> log
  protocols/    config/            SMTP and SASL without IO  |  the settings
  mail/                            the words: Address, Envelope, Reply, Outcome, …

`__main__.py` is `python -m gatepost`. Each package's docstring is its map; docs/life-of-a-message.md walks through all of them.
"""

__version__ = "0.1.0"
