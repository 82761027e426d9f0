"""Settings -> objects -> running processes. Here alone concrete classes are chosen.

assembly.py     one worker's rooms, put together out of Settings
worker.py       a worker process: one event loop with all listeners, one or more queue shards, delivery
master.py       the supervisor: binds, drops root, starts workers, restarts them, reloads, stops
channel.py      JSON lines between master and workers, and between the command line and the master
privileges.py   becoming the user that workers run as
home.py         the home folder: where things are, and how a new one is furnished

  gatepost serve = master --+-- worker 0: listeners, shard 0
                            +-- worker 1: listeners, shard 1
  gatepost status, reload, queue … --- run/control.sock --- master
"""
