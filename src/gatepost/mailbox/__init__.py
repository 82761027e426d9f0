"""What is kept: the mail of every account, in Maildirs below the home folder.

  places.py      account -> its folder: names encoded so that no address can walk out, symbolic links refused
  maildir.py     a batch of messages put into Maildirs durably: tmp, synced, new
  durability.py  written files made crash-proof: fsync each, or one syncfs for many, whichever is quicker here

Invariants. A file visible in `new` is whole and on the disk, whenever the machine stops. Nothing is ever written to or
read from outside the tree. What goes wrong with one mailbox leaves the others of the batch alone. Everything here
blocks, so it runs in a worker thread, one batch at a time.
"""
