"""What both faces do: verbs that the command line and the web page share.

  residents.py   domains, accounts and forwards: added, changed, listed; passwords made and hashed on the way
  explain.py     what would happen to this recipient or login: the live path, walked, with its steps

A verb answers with what was done or found; it prints nothing.
"""
