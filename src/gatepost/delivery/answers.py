"""What a next hop answered, as outcomes, in Postfix's words: `host mx.test[192.0.2.1] said: 550 5.1.1 … (in reply to …)`.

MAIL, DATA, end of data   4yz defers and 5yz fails all recipients (still) accepted
RCPT                      4yz defers and 5yz fails this one
552 to RCPT that means "too many"   defers (RFC 5321 §4.5.3.1.10)
"""

from __future__ import annotations

from gatepost.delivery.next_hop import HostAddress
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.mail.reply import Reply
from gatepost.protocols.smtp.client_events import Stage, Transaction

TOO_MANY_RECIPIENTS = "5.5.3"  # RFC 3463 §3.6


def outcome_of(transaction: Transaction, at: int, address: HostAddress, *, dsn: bool) -> Outcome | None:
    """How it ended for the recipient number `at`; None where the connection broke before the answers said."""
    mail, data, end = transaction.mail, transaction.data, transaction.end
    if mail is not None and mail.code >= 400:
        return refusal(mail, Stage.MAIL, address)
    if at < len(transaction.rcpt) and transaction.rcpt[at].code >= 400:
        return _refused_recipient(transaction.rcpt[at], address)
    if data is not None and data.code >= 400:
        return refusal(data, Stage.DATA, address)
    if end is None:
        return None
    if end.code >= 400 or not transaction.content_complete:
        return refusal(end, Stage.END, address)
    return Delivered(address.relay, str(end), end.status, dsn_passed_on=dsn)


def outcomes_of(transaction: Transaction, address: HostAddress, *, dsn: bool) -> list[Outcome]:
    """One for each recipient, in order, once all answers are in."""
    end = transaction.end
    if (
        end is not None
        and end.code < 300
        and transaction.content_complete
        and all(r.code < 300 for r in transaction.rcpt)
    ):
        return [Delivered(address.relay, str(end), end.status, dsn_passed_on=dsn)] * len(transaction.recipients)
    unanswered = lost(address, Stage.END)  # never, since all answers are in; should it be, the mail is not lost
    return [outcome_of(transaction, at, address, dsn=dsn) or unanswered for at in range(len(transaction.recipients))]


def refusal(reply: Reply, stage: Stage, address: HostAddress) -> Deferred | Failed:
    """A 4yz or 5yz to one message or recipient."""
    if reply.is_permanent:
        return Failed(address.relay, _said(reply, stage, address), reply.status, remote_reply=True)
    return temporary_refusal(reply, stage, address)


def temporary_refusal(reply: Reply, stage: Stage, address: HostAddress) -> Deferred:
    """A 4yz to one message or recipient."""
    return Deferred(address.relay, _said(reply, stage, address), reply.status, remote_reply=True)


def refused_session(reply: Reply, address: HostAddress) -> Deferred:
    """A greeting, EHLO or HELO that was refused: the site cannot be used now, whatever the code's class says.

    A 5yz greeting defers too (Postfix smtp_skip_5xx_greeting): it speaks of the host or of us, not of the mail.
    """
    status = "4" + reply.status[1:]
    return Deferred(
        address.relay, f"host {address} refused to talk to me: {reply}", status, site_failed=True, remote_reply=True
    )


def lost(address: HostAddress, stage: Stage) -> Deferred:
    """The connection broke."""
    return Deferred(address.relay, f"lost connection with {address} while {stage.doing}", "4.4.2", site_failed=True)


def timed_out(address: HostAddress, stage: Stage) -> Deferred:
    """The peer took too long."""
    text = f"conversation with {address} timed out while {stage.doing}"
    return Deferred(address.relay, text, "4.4.2", site_failed=True)


def _said(reply: Reply, stage: Stage, address: HostAddress) -> str:
    return f"host {address} said: {reply} (in reply to {stage.command})"


def _refused_recipient(reply: Reply, address: HostAddress) -> Deferred | Failed:
    refused = refusal(reply, Stage.RCPT, address)
    if reply.code == 552 and reply.enhanced == TOO_MANY_RECIPIENTS:  # RFC 5321 §4.5.3.1.10
        return Deferred(refused.relay, refused.text, "4.5.3", remote_reply=True)
    return refused
