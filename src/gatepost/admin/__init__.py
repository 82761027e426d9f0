"""What both faces do: verbs that the command line and the web page share.

  residents.py   domains, accounts and forwards: added, changed, listed; passwords made and hashed on the way
"""
