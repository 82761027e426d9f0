"""Who lives here: domains, accounts and forwards, asked for by every session and changed while it runs.

  records.py   Domain, Account, Forward; how sources and targets of forwards are written
  lookups.py   Directory: the questions a worker asks, remembered until anything changes
  selects.py   the SELECTs both use, and how rows become records
  edits.py     DirectoryEdits: the changes, each with its checks, each a transaction; lists for people
  chains.py    where forwards lead, seen from the tables alone: finds loops before they are stored

Invariants:
- A domain is stored in A-labels and lower case. An address is found by its key (`Address.key`, all in lower case) and
  shown as it was spelt.
- A change is seen by every worker at its very next look-up: nothing to compile, nothing to reload.
- Nothing is stored that makes a forward lead back to itself, as far as the tables alone can tell.
- Records say what is stored. What follows from it (an account of a domain that is switched off, say) is for callers.
"""
