"""Where sockets are: listening addresses, the relayhost and name servers, as the file writes them, and back.

Parsers are total: any text gives a value or WrongValue, whose text can be shown. `str` of a value parses to the same value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from gatepost.config.values import MAX_LENGTH, WrongValue, quoted
from gatepost.mail.address import BadAddress, parse_domain

DNS_PORT = 53

_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::([0-9]{1,5}))?")
_BARE = re.compile(r"([^\[\]:]*)(?::([0-9]{1,5}))?")
_SCOPE = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]{1,32})?")
_HOST_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_HIGHEST_PORT = 65535
_MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address in its normal form and a port. A listener's port 0 is any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        """`192.0.2.1:25` or `[2001:db8::1]:25`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a UNIX socket, below the home folder unless it is absolute. It never holds ".."."""

    path: str

    def __str__(self) -> str:
        """`unix:run/lmtp`."""
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class RelayHost:
    """Where mail for other domains goes: `host` as a domain or IP address, whether its MX hosts are looked up, `port`."""

    host: str
    look_up_mx: bool
    port: int | None = None  # None where the file names none

    def __str__(self) -> str:
        """As Postfix writes a next hop: `example.test`, `[mx.example.test]:587`."""
        host = self.host if self.look_up_mx else f"[{self.host}]"
        return host if self.port is None else f"{host}:{self.port}"


def parse_listen_address(text: str) -> TcpAddress | UnixAddress:
    """Where a listener listens: "127.0.0.1:25", "[::]:25" or "unix:path". Raises WrongValue."""
    if text.startswith("unix:"):
        return _unix_address(text)
    host, port = _split(text)
    if port is None and host is not None and (address := _ip(host)) is not None:
        raise WrongValue(f'{quoted(text)} names no port; write "{TcpAddress(str(address), 25)}"')
    if host is None or port is None:
        raise WrongValue(f'{quoted(text)} is no address; write it like "127.0.0.1:25", "[::]:25" or "unix:run/lmtp"')
    if host in {"", "*"}:
        raise WrongValue(
            f'{quoted(text)} names no IP address; write "0.0.0.0:{port}" for all of IPv4 or "[::]:{port}" for IPv6'
        )
    return TcpAddress(_ip_text(host, text), _port(port, text, least=0))


def _unix_address(text: str) -> UnixAddress:
    path = text.removeprefix("unix:")
    if not path or len(path) > _MAX_PATH or not path.isprintable():
        raise WrongValue(f'{quoted(text)} names no path; write it like "unix:run/lmtp"')
    if ".." in path.split("/"):
        raise WrongValue(f'{quoted(text)} holds ".."; write the path without it')
    if path.endswith("/"):
        raise WrongValue(f"{quoted(text)} names a folder; add the socket's own name")
    return UnixAddress(path)


def parse_relayhost(text: str) -> RelayHost:
    """A next hop: `host`, `host:port`, `[host]`, `[host]:port`, `[ip]`. Raises WrongValue."""
    found = _BRACKETED.fullmatch(text) or _BARE.fullmatch(text)
    if not found or not found[1]:
        raise WrongValue(f"{quoted(text)} is no host; write it like [mail.example.org]:587, [192.0.2.1] or example.org")
    host, port_text = found.groups()
    port = None if port_text is None else _port(port_text, text, least=1)
    look_up_mx = not text.startswith("[")
    address = _ip(host)
    if address is None:
        return RelayHost(_next_hop_name(host, text), look_up_mx, port)
    if look_up_mx:
        raise WrongValue(f"{quoted(text)} is an IP address; put it in brackets: [{address}]")
    return RelayHost(str(address), False, port)


def _next_hop_name(host: str, text: str) -> str:
    try:
        name = parse_domain(host)
    except BadAddress as problem:
        raise WrongValue(f"{quoted(text)} is no host ({problem}); write it like [mail.example.org]:587") from None
    if name.startswith("[") or name.rpartition(".")[2].isdigit():
        raise WrongValue(f"{quoted(text)} is neither a name nor an IP address; write it like [192.0.2.1]:587")
    return name


def parse_name_server(text: str) -> TcpAddress:
    """A name server: "192.0.2.53", "127.0.0.1:5353", "2001:db8::53", "[2001:db8::53]:5353". Raises WrongValue."""
    host, port = _split(text)
    if not host:
        raise WrongValue(
            f'{quoted(text)} is no name server; write its IP address, like "192.0.2.53" or "127.0.0.1:5353"'
        )
    return TcpAddress(_ip_text(host, text), DNS_PORT if port is None else _port(port, text, least=1))


def parse_host_name(text: str) -> str:
    """The same name where it is a host name (RFC 1123 §2.1) in A-labels. Raises WrongValue."""
    if not text.isascii():
        raise WrongValue(f"{quoted(text)} is not in ASCII; {_a_label_advice(text)}")
    labels = text.split(".")
    if len(text) > 253 or not all(_HOST_LABEL.fullmatch(label) for label in labels):
        raise WrongValue(f'{quoted(text)} is no host name; write letters, digits and "-", like "mail.example.org"')
    if labels[-1].isdigit():
        raise WrongValue(f'{quoted(text)} is no host name but a number; write a name like "mail.example.org"')
    return text


def _a_label_advice(text: str) -> str:
    try:
        return f"write it as {parse_domain(text)}"
    except BadAddress:
        return "write it with ASCII letters"


def _split(text: str) -> tuple[str | None, str | None]:
    """Host and port where they can be told apart; an IPv6 address without brackets has no port."""
    if len(text) > MAX_LENGTH:
        return None, None
    found = _BRACKETED.fullmatch(text) or _BARE.fullmatch(text)
    if found:
        return found[1], found[2]
    return (text, None) if isinstance(_ip(text), IPv6Address) else (None, None)


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text) if _SCOPE.fullmatch(text) else None
    except ValueError:
        return None


def _ip_text(host: str, text: str) -> str:
    address = _ip(host)
    if address is None:
        raise WrongValue(f"{quoted(text)} holds no IP address; names are not looked up here, write the address itself")
    return str(address)


def _port(port: str, text: str, *, least: int) -> int:
    if not least <= int(port) <= _HIGHEST_PORT:
        raise WrongValue(f"{quoted(text)} has no such port; it is between {least} and {_HIGHEST_PORT}")
    return int(port)
