"""Events as JSON, one object on a line, for programs that read the log.

`time` (ISO 8601, UTC, microseconds), `event` (the event's name in lower case with `_`), `host`, `pid`, then the
event's own fields under their names. What is compound is laid flat: a peer as `client_name`, `client_address` and
`client_port` (null where there is none); a reply as `code`, `enhanced` and `text`; an outcome as `outcome` (delivered,
deferred, failed) and its facts; TLS as `tls_version` and so on; `delays` as an object in seconds.

Lines are ASCII: everything else, control characters too, is written as JSON escapes. Strings are cut at MAX_STRING.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, get_args

from gatepost.mail.outcome import Deferred, Delivered, Failed
from gatepost.mail.peer import Peer, TlsFacts
from gatepost.mail.reply import Reply
from gatepost.observe.events import Event

MAX_STRING = 4000  # characters
_DELAYS: Final = ("before_queue", "in_queue", "connecting", "sending")
_HUMP = re.compile(r"(?<!^)(?=[A-Z])")


def event_name(kind: type) -> str:
    """`MessageReceived` as `message_received`."""
    return _HUMP.sub("_", kind.__name__).lower()


class JsonLines:
    """Renders events for one process."""

    def __init__(self, hostname: str, pid: int) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
        self._host = hostname
        self._pid = pid
        self._second = -1
        self._stamp = ""
        self._shapes = {kind: (event_name(kind), [field.name for field in fields(kind)]) for kind in get_args(Event)}

    def __call__(self, now: float, event: Event) -> str:
        """The event's line. `now`: seconds since 1970."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        name, field_names = self._shapes[type(event)]
        record: dict[str, Any] = {
            "time": f"{self._stamp}.{int((now - second) * 1_000_000):06d}Z",
            "event": name,
            "host": self._host,
            "pid": self._pid,
        }
        for field_name in field_names:
            value = getattr(event, field_name)
            flatten = _FLATTEN.get(field_name)
            if flatten is not None:
                record.update(flatten(value))
            elif type(value) is str and len(value) > MAX_STRING:
                record[field_name] = _cut(value)
            else:
                record[field_name] = value
        return self._encode(record).replace("\x7f", "\\u007f") + "\n"  # JSON leaves DEL as it is


def _cut(text: str) -> str:
    return text if len(text) <= MAX_STRING else text[: MAX_STRING - 3] + "..."


def _flat_peer(peer: Peer | None) -> dict[str, Any]:
    if peer is None:
        return {"client_name": None, "client_address": None, "client_port": None}
    return {"client_name": _cut(peer.name), "client_address": _cut(peer.address), "client_port": peer.port}


def _flat_tls(tls: TlsFacts) -> dict[str, Any]:
    return {
        "tls_version": tls.version,
        "tls_cipher": tls.cipher,
        "tls_bits": tls.bits,
        "tls_server_name": _cut(tls.server_name),
    }


def _flat_reply(reply: Reply) -> dict[str, Any]:
    return {"code": reply.code, "enhanced": reply.enhanced, "text": _cut(reply.text)}


def _flat_outcome(outcome: Delivered | Deferred | Failed) -> dict[str, Any]:
    flat: dict[str, Any] = {"outcome": event_name(type(outcome))}
    for field in fields(outcome):
        value = getattr(outcome, field.name)
        flat[field.name] = _cut(value) if type(value) is str else value
    return flat


def _flat_delays(delays: tuple[float, float, float, float]) -> dict[str, Any]:
    return {"delays": {name: round(seconds, 6) for name, seconds in zip(_DELAYS, delays, strict=True)}}


def _flat_commands(commands: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    return {"commands": {verb: {"accepted": accepted, "all": total} for verb, (accepted, total) in commands.items()}}


_FLATTEN: Final[Mapping[str, Callable[[Any], dict[str, Any]]]] = {
    "peer": _flat_peer,
    "tls": _flat_tls,
    "reply": _flat_reply,
    "outcome": _flat_outcome,
    "delays": _flat_delays,
    "commands": _flat_commands,
}
