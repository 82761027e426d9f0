"""Telling what happened: events in, log lines out.

  events.py         every event, one class each; what all rooms tell with
  postfix_lines.py  event -> lines in Postfix's own log format
  json_lines.py     event -> one JSON object on a line
  sinks.py          where lines go: a file several processes append to, or standard output
  journal.py        Journal: takes events, renders, buffers, writes in batches

Invariants: telling never blocks mail and never raises; a line is one event's own, whole, and holds no control
character, whatever a peer sent; memory is bounded; what had to be dropped is counted and said.
"""
