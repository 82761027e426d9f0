"""When is the next attempt, when is mail late, when is it returned. Postfix's rules, pure.

A message that is young is tried often, an old one seldom: the pause is as long as the message has already waited, at
least `minimal_backoff_time` and at most `maximal_backoff_time` (Postfix: qmgr_defer, `minimal_backoff_time`). With the
defaults a message that keeps failing is tried after 5, 10, 20, 40 and 80 minutes, then every 67. RFC 5321 §4.5.4.1 asks
for pauses that grow and for 4 to 5 days before one gives up.
"""

from __future__ import annotations

from gatepost.config.settings import QueueSettings
from gatepost.queue.records import Job, QueuedMessage


def next_attempt_at(arrived_at: float, now: float, settings: QueueSettings) -> float:
    """When (seconds since 1970) to try again after a deferral at `now`."""
    age = now - arrived_at  # below zero where the clock was set back: then the shortest pause
    return now + max(settings.minimal_backoff_time, min(age, settings.maximal_backoff_time))


def is_expired(message: QueuedMessage, now: float, settings: QueueSettings) -> bool:
    """Whether the message has waited as long as it may. Asked after a deferral, so a lifetime of 0 means one attempt."""
    is_null_sender = message.envelope.sender is None
    lifetime = settings.bounce_queue_lifetime if is_null_sender else settings.maximal_queue_lifetime
    return now - message.arrived_at >= lifetime


def delay_warning_due(message: QueuedMessage, job: Job, now: float, settings: QueueSettings) -> bool:
    """Whether the sender should now be told that this recipient's mail is late: once, and never for a bounce."""
    return (
        settings.delay_warning_time > 0
        and not job.delay_warned
        and message.envelope.sender is not None  # RFC 3464 §2: a report never answers a report
        and job.recipient.wants("DELAY")  # RFC 3461 §4.1
        and now - message.arrived_at >= settings.delay_warning_time
    )
