"""The bench: Gatepost and Postfix on one machine, turn and turn about, over loopback.

    python -m bench                     the whole race, about 10 minutes
    python -m bench --quick             a smaller one, about 2 minutes
    python -m bench --kind relay --sessions 20 --size 4 --rounds 5
    python -m bench idle-sessions       what 5,000 idle SMTP sessions cost one Gatepost worker
    python -m bench queue-depth         what a message costs the queue with 10 and with 200,000 others waiting

Run it as root (Postfix's master needs it) on a machine that does nothing else. Debian's package `postfix` gives the rival,
`smtp-source` and `smtp-sink`. Tables go to standard output, all figures to bench/results/*.json. Everything is in
temporary folders (TMPDIR, which must be a real disk), on loopback, and ended by process id.

What is raced
  relay      127.0.0.1 is in mynetworks; every message goes to `relayhost`, which is smtp-sink
  forward    1,000 forwards `Nu@ours.test` -> `Nu@dest.test`; each message to another one; the target goes to `relayhost`.
             smtp-source numbers recipients without end, so one smtp-source per 1,000 messages shares the sessions
  maildir    every message into one Maildir
  at 1, 20 and 100 sessions, with 4 KiB and with 200 KiB of text. smtp-source opens a connection for each message, as a
  stranger's server does, and does not pipeline; `--keep-connections` has it send all over the same ones.

What is measured
  messages/s     from the start of smtp-source until the last message is at the sink or in `new/`; a run counts only when
                 the server's queue is empty afterwards and nothing arrived that was not sent
  ratio          Gatepost's median by Postfix's; "spread" is the smallest and the largest round
  CPU/message    user and system time of every process of the server, from before the load until its queue is empty:
                 utime + stime + cutime + cstime of the master and all its descendants, so that processes that came and
                 went meanwhile (Postfix's are replaced after `max_use`) are counted once their parent has reaped them.
                 Granularity is 10 ms for each process. smtp-source, smtp-sink and kernel threads are not counted
  memory         PSS (shared pages split among those who share them) and RSS from /proc/PID/smaps_rollup: idle, which is
                 after the first greeting; and loaded, which is after the last round
  others         share of the machine's CPU time that neither server, source nor sink had (kernel threads, whatever else
                 ran, and what a hypervisor took away). Where it is above 10 % the line is marked "!": do not trust it.
                 `--patient` waits for a quiet machine before each run and repeats runs that were disturbed

A round is one run of each server; who begins changes from round to round. Before the first round of a scenario both are
warmed up with its own load, and before each run the disks are synced, so that nobody pays for the other's writes.
Both servers are up all the time; the one whose turn it is not sleeps.

What both have on: fsync of every message before its 250, relay check and look-up of the recipient, Received, the log in a
file. What both have off: the look-up of the client's name in DNS (there is none on loopback worth measuring). Gatepost
offers STARTTLS as it does by default; nobody takes it.

What Postfix was given: no TLS, no chroot, no DNS, hash and texthash maps, log through its own postlogd, and the settings
that made it faster or cheaper (postfix_contender.py names them, and those that did not).

  __main__.py              the command line
  scenarios.py             what is raced, how many messages, and the goals
  tools.py                 the programs it needs
  race.py                  rounds: one server, one scenario, one run after the other
  contender.py             what a server must do to take part
  postfix_contender.py     Postfix (an instance of its own: tests/peers)
  gatepost_contender.py    Gatepost, driven from outside as an operator would
  source.py                smtp-source, one or several
  sink.py                  smtp-sink, and how many messages it has taken
  processes.py             CPU time and memory out of /proc
  figures.py               medians, spreads, ratios
  machine.py               what the figures depend on: processors, disk, versions
  report.py                tables and JSON
  idle_sessions.py         what an idle session costs
  queue_depth.py           what a full queue costs
"""

from __future__ import annotations

import sys
from pathlib import Path

# The bench's Postfix is the tests' Postfix; this is the one place that knows where it lives.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
