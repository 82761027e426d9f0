"""What a report tells about each recipient, and the plain English of its first part.

The reader is somebody who wrote a letter, not one who runs mail servers: what happened to which address, what the other
side said in its own words, and what to do next. No abbreviations, no codes but those inside the quoted words.

What others sent is shown on one line without control characters or invisible ones (they become `?`), cut at MAX_SAID
characters. Lines are at most WIDTH characters where words allow it, and never longer than RFC 5322 §2.1.1 permits.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal, TypeAlias

from gatepost.mail.address import Address, display_domain
from gatepost.mail.outcome import Delivered, Outcome
from gatepost.queue.records import Job

WIDTH = 74
MAX_OCTETS = 900  # of one word or address, so that with its margin it fits into the 998 of a line
MAX_SAID = 1000  # characters

# RFC 3464 §2.3.3
Action: TypeAlias = Literal["failed", "delayed", "delivered", "relayed", "expanded"]

_RELAY = re.compile(r"([^\[\s]*)\[([^\]\s]+)\]")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_FALLBACK: dict[Action, str] = {"failed": "5.0.0", "delayed": "4.0.0"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One recipient of a report. All texts are safe to print: no control characters, no line ends."""

    action: Action
    recipient: Address  # who was to get it, after forwards
    original: Address  # whom the sender wrote to
    orcpt: str  # `addr-type;address` as the sender gave it, or ""
    status: str  # enhanced status
    said: str  # the reason or the answer, "" where there is none
    remote: str  # the host that said it, "" where we say so ourselves

    @property
    def is_ascii(self) -> bool:
        """Whether its addresses can stand in a report without UTF-8 (RFC 6533 §3)."""
        return self.recipient.is_ascii and self.original.is_ascii and self.orcpt.isascii()


def entry(action: Action, job: Job, outcome: Outcome) -> Entry:
    """What a report tells of one job."""
    status = outcome.status if _STATUS.fullmatch(outcome.status) else _FALLBACK.get(action, "2.0.0")
    orcpt = printable(job.recipient.orcpt)
    if action == "expanded":
        # RFC 3464 §2.3.3: it has come to the address the sender named, and went on from there.
        return Entry(action, job.original, job.original, orcpt, status, said="", remote="")
    said, remote = printable(outcome.text), _remote(outcome)
    return Entry(action, job.recipient.address, job.original, orcpt, status, said, remote)


def printable(text: str) -> str:
    """`text` on one line, without what cannot be seen; cut at MAX_SAID characters."""
    line = " ".join(text[: 2 * MAX_SAID].split("\n"))
    shown = "".join(character if character.isprintable() else "?" for character in line).strip()
    return shown if len(shown) <= MAX_SAID else shown[: MAX_SAID - 1].rstrip() + "…"


def _remote(outcome: Outcome) -> str:
    """The host whose words `outcome.text` is, as `mx.example.test` or `[192.0.2.1]`."""
    found = _RELAY.match(outcome.relay)
    if found is None or not (isinstance(outcome, Delivered) or outcome.remote_reply):
        return ""
    name = found[1] if found[1] not in ("", "unknown") else f"[{found[2]}]"
    return printable(name)


@dataclass(frozen=True, slots=True)
class Letter:
    """What the first part says beside the entries."""

    hostname: str
    postmaster: Address
    queue_id: str
    arrived_at: float  # seconds since 1970
    retry_until: float  # seconds since 1970
    attached: Literal["message", "header"]


def failure_text(letter: Letter, entries: Sequence[Entry]) -> str:
    """Mail that will not arrive."""
    opening = [
        _greeting(letter),
        f"Your message of {_date(letter.arrived_at)} could not be delivered to {_these(entries)}. "
        "It will not be tried again.",
    ]
    return _text(opening, (_failure(letter, each) for each in entries), _closing(letter))


def delay_text(letter: Letter, entries: Sequence[Entry]) -> str:
    """Mail that is late."""
    opening = [
        _greeting(letter),
        f"Your message of {_date(letter.arrived_at)} has not reached {_these(entries)} yet.",
        f"You need not do anything, and need not send it again. It will be tried until {_date(letter.retry_until)}. "
        "If it cannot be delivered in the end, you will be told.",
    ]
    return _text(opening, (_address(each) + _reason(each) for each in entries), _closing(letter))


def success_text(letter: Letter, entries: Sequence[Entry]) -> str:
    """Mail that arrived, or left for where no word will come from."""
    opening = [
        _greeting(letter),
        f"You asked to be told what became of your message of {_date(letter.arrived_at)}.",
    ]
    return _text(opening, (_address(each) + _wrapped(_success(each), 4) for each in entries), _closing(letter))


def _greeting(letter: Letter) -> str:
    return f"This is the mail server {display_domain(letter.hostname)}."


def _these(entries: Sequence[Entry]) -> str:
    return "the address below" if len(entries) == 1 else f"the {len(entries)} addresses below"


def _failure(letter: Letter, each: Entry) -> list[str]:
    return [*_address(each), *_reason(each), "", *_wrapped(f"What you can do: {_advice(letter, each)}", 4)]


def _address(each: Entry) -> list[str]:
    lines = ["", f"  <{_shown(each.recipient)}>", ""]
    if each.original.key != each.recipient.key:
        lines += [*_wrapped(f"You wrote to {_shown(each.original)}. Mail for it goes on to the address above.", 4), ""]
    return lines


def _reason(each: Entry) -> list[str]:
    if each.remote:
        who = f"The mail server {each.remote} answered:"
    elif each.status[2:] in _UNREACHABLE:
        who = "No mail server of this address could be reached:"
    else:
        who = "What happened:"
    return [*_wrapped(who, 4), *_wrapped(each.said or "no reason was given", 8)]


def _success(each: Entry) -> str:
    match each.action:
        case "relayed":
            to = f"the mail server {each.remote}" if each.remote else "the next mail server"
            return (
                f"It was handed on to {to}, which does not confirm deliveries. You will hear of it again only if "
                "something goes wrong."
            )
        case "expanded":
            return "It was accepted for this address and sent on to all the addresses that stand behind it."
        case _:
            return "It was put into this mailbox."


# RFC 3463 §3: the subject and detail of a status say what kind of trouble it is.
_NO_SUCH_ADDRESS = (
    "There seems to be no such address. Look for a spelling mistake in it, or ask the person for the right one by "
    "another way."
)
_NO_SUCH_DOMAIN = (
    "Mail cannot be sent to the part after the @ sign. Look for a spelling mistake there, or ask the person for another "
    "address by another way."
)
_REFUSED = (
    "The receiving side does not want to take this message. Ask the person by another way; those who look after the "
    "mail there can say why, and may need the words above."
)
_UNREACHABLE = frozenset({"4.1", "4.2", "4.3", "4.5"})
_ADVICE = {
    "1.0": _NO_SUCH_ADDRESS,
    "1.1": _NO_SUCH_ADDRESS,
    "1.2": _NO_SUCH_DOMAIN,
    "1.3": _NO_SUCH_ADDRESS,
    "1.6": "The person has moved to another address. Ask for the new one by another way.",
    "1.10": _NO_SUCH_DOMAIN,
    "2.1": "The mailbox is switched off at present. Tell the person by another way.",
    "2.2": "The mailbox is full. Tell the person by another way, and send the message again once there is room.",
    "2.3": "The message is too large. Send it without attachments, or send a link to them.",
    "3.4": "The message is too large. Send it without attachments, or send a link to them.",
    "4.4": _NO_SUCH_DOMAIN,
    "6.7": "The receiving side cannot handle this kind of address. Ask the person for one in plain Latin letters.",
}


def _advice(letter: Letter, each: Entry) -> str:
    kind = each.status[2:]
    if each.status.startswith("4"):
        return (
            "It was tried again and again, and the trouble did not end. Ask the person by another way whether their mail "
            "works, then send your message again."
        )
    if kind == "4.6":
        return (
            "The message goes round in a circle between addresses that forward to one another. Please tell "
            f"{_shown(letter.postmaster)}, so that it can be mended."
        )
    if kind.startswith("7."):
        return _REFUSED
    return _ADVICE.get(
        kind, f"Look for a spelling mistake in the address. If there is none, ask {_shown(letter.postmaster)} for help."
    )


def _closing(letter: Letter) -> list[str]:
    attached = "Your message is" if letter.attached == "message" else "The first lines of your message are"
    return [
        f"{attached} attached to this report, and so are the details for those who look after mail servers.",
        f"If you need help, write to {_shown(letter.postmaster)} and name the message by this number: {letter.queue_id}",
    ]


def _text(opening: Iterable[str], entries: Iterable[list[str]], closing: Iterable[str]) -> str:
    """All paragraphs, lines ending in LF."""
    lines: list[str] = []
    for paragraph in opening:
        lines += ["", *_wrapped(paragraph)] if lines else _wrapped(paragraph)
    for each in entries:
        lines += each
    for paragraph in closing:
        lines += ["", *_wrapped(paragraph)]
    return "\n".join(lines) + "\n"


def _wrapped(text: str, indent: int = 0) -> list[str]:
    """Lines of WIDTH characters. Words stay whole, so that addresses can be copied, but for absurdly long ones."""
    words = (piece for word in text.split() for piece in _pieces(word))
    margin = " " * indent
    return textwrap.wrap(
        " ".join(words),
        WIDTH,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _pieces(word: str) -> list[str]:
    if len(word.encode()) <= MAX_OCTETS:
        return [word]
    length = MAX_OCTETS // 4  # no character has more octets than 4
    return [word[at : at + length] for at in range(0, len(word), length)]


def _shown(address: Address) -> str:
    """As people write it, U-labels included."""
    text = printable(str(address.with_domain(display_domain(address.domain))))
    pieces = _pieces(text)
    return text if len(pieces) == 1 else pieces[0] + "…"


def _date(at: float) -> str:
    return formatdate(at, localtime=True)
