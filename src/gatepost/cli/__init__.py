"""The operator's mouth: `gatepost NOUN VERB`.

  main.py       the command itself: finds the home folder, loads the noun that is asked for
  house.py      House: what every command is given
  server.py     init, serve, status, reload, stop
  send.py       send: a message through a server, as a client would
  explain.py    explain recipient | login
  settings.py   config show | check | reference
  directory.py  what the next three share
  domain.py, account.py, forward.py
  queue.py      queue list | show | retry | hold | release | delete
  ca.py         ca init | request | sign | issue | renew | show | list
  reference.py  every command and option -> docs/cli.md

Commands print facts to standard output and end with 0, or say on standard error what happened and what to do and end with 1.
What they do is in `admin`, `directory`, `queue` and `service`; here are only words. Each noun's file is imported when it is
asked for.
"""
