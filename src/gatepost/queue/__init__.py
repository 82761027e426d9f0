"""The queue: what was accepted and is not yet delivered. The only place where receiving and delivering meet.

  records.py     QueuedMessage, Job, Body, NewMessage, JobResult: what the queue keeps, and what goes in and out
  shard.py       QueueShard: one worker's part of the queue, with the table of states
  writer.py      the thread that commits for a shard: group commit, failures, results that are never lost
  rows.py        the SQL of the hot path; records to rows and back
  bodies.py      BodyWriter: small bodies in memory, large ones in files of their own
  lock.py        ShardLock, ShardBusy: one owner for each shard
  retry.py       when is the next attempt, when is mail late, when is it returned; pure
  inspect.py     QueueInspector: list, show, hold, release, retry, delete, from any process
  statistics.py  how much waits

Below the home folder, for each shard: `queue/<n>/queue.sqlite`, `queue/<n>/bodies/<queue id>`, `queue/<n>/lock`.

Invariants:
- A message has a row exactly as long as it has a job. Its body is in the row, or in a file that was synced before the row
  was committed and is removed after the row is gone.
- A queue number is never given twice, not even when all messages are gone and the clock was set back.
- What happens between two commits may make an attempt happen twice; nothing that was acknowledged is lost.
- What one message costs does not depend on how many wait: an active job is in no index but its key.
"""
