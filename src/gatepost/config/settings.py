"""Every setting, declared once: name, type, default and one sentence. The loader, `gatepost config show`, the sample file
and docs/settings.md are made from these declarations; nothing else may add a setting.

Times are seconds, sizes are bytes once loaded; the file may say "5d" or "50 MiB". Names are Postfix's own wherever
Postfix has the setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal, NewType, TypeAlias

Seconds = NewType("Seconds", float)
Bytes = NewType("Bytes", int)
Network: TypeAlias = IPv4Network | IPv6Network

Role = Literal["mx", "submission", "submissions", "lmtp"]
ServerTls = Literal["none", "may", "encrypt", "wrapper"]
ClientTls = Literal["none", "may", "encrypt"]
BareNewline = Literal["reject", "normalize"]

KIBI, MEBI = 1024, 1024 * 1024
MINUTE, HOUR, DAY = 60, 3600, 86400


def setting(default: Any, sentence: str, *, least: float | None = None, most: float | None = None) -> Any:
    """A field with its sentence and, for numbers, the bounds that the loader checks (both included)."""
    metadata = {"sentence": sentence, "least": least, "most": most}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: default.copy(), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """One socket that takes mail. Any number of them; each has a role that sets its defaults."""

    name: str = setting("", "What logs and errors call this listener; its role and address where empty.")
    role: Role = setting(
        "mx",
        "What it is for: mx (mail from anyone to our domains), submission (users, STARTTLS), submissions (users, TLS from the first byte) or lmtp (mail from our own hosts, an answer per recipient).",
    )
    address: str = setting(
        "", 'Where it listens: "127.0.0.1:2525", "[::]:25", or "unix:run/lmtp" below the home folder.'
    )
    hostname: str = setting("", "The name in its greeting; the main `hostname` where empty.")
    tls: ServerTls = setting(
        "may",
        "none, may (STARTTLS offered), encrypt (nothing else before STARTTLS) or wrapper (TLS from the first byte).",
    )
    auth: bool = setting(False, "Whether clients may log in.")
    auth_required: bool = setting(False, "Whether MAIL is refused before a login.")
    auth_without_tls: bool = setting(False, "Whether passwords are offered and taken on a connection without TLS.")
    authenticated_header: bool = setting(
        False, "Whether Received names who was logged in (Postfix smtpd_sasl_authenticated_header)."
    )
    mynetworks: list[Network] = setting(
        [], "Clients that may relay without a login where relay_restrictions says permit_mynetworks."
    )
    relay_restrictions: list[str] = setting(
        ["permit_mynetworks", "permit_sasl_authenticated"],
        "Who may send to domains that are not ours; everybody else is refused (reject_unauth_destination always ends this list).",
    )
    helo_restrictions: list[str] = setting([], "Checks of the HELO name, run at RCPT.")
    sender_restrictions: list[str] = setting(
        ["reject_authenticated_sender_login_mismatch"], "Checks of the sender, run at RCPT."
    )
    recipient_restrictions: list[str] = setting(
        [], "Checks of each recipient, run at RCPT; that it exists is always checked last."
    )
    helo_required: bool = setting(True, "Whether MAIL is refused before HELO or EHLO.")
    vrfy: bool = setting(False, "Whether VRFY answers; an answer helps those who guess addresses.")
    bare_newline: BareNewline = setting(
        "reject", "What is done with a CR or LF that stands alone: reject the message, or normalize it to CRLF."
    )
    message_size_limit: Bytes = setting(50 * MEBI, "Largest message in bytes.", least=1 * KIBI, most=1024 * MEBI)
    header_size_limit: Bytes = setting(512 * KIBI, "Largest header block in bytes.", least=4 * KIBI, most=16 * MEBI)
    text_line_length_limit: Bytes = setting(
        256 * KIBI, "Longest line of a message in bytes.", least=998, most=16 * MEBI
    )
    recipient_limit: int = setting(1000, "Most recipients in one transaction.", least=1, most=100_000)
    hopcount_limit: int = setting(
        50, "Most Received fields a message may have before it counts as looping.", least=1, most=1000
    )
    soft_error_limit: int = setting(
        10, "After so many errors in a session every reply waits for error_sleep_time.", least=1
    )
    hard_error_limit: int = setting(20, "After so many errors a session is ended.", least=1)
    error_sleep_time: Seconds = setting(
        1.0, "How long a reply waits once there were too many errors.", least=0, most=60
    )
    junk_command_limit: int = setting(
        100, "After so many NOOP, RSET, VRFY or HELP without a message, each further one counts as an error.", least=1
    )
    command_time_limit: Seconds = setting(
        5 * MINUTE, "How long a client may take for a command (RFC 5321 §4.5.3.2.7).", least=1
    )
    data_time_limit: Seconds = setting(5 * MINUTE, "How long a client may be silent within a message.", least=1)
    session_time_limit: Seconds = setting(2 * HOUR, "How long a session may last in all.", least=10)
    connection_limit: int = setting(20_000, "Most sessions at a time in each worker.", least=1)
    client_connection_count_limit: int = setting(
        50, "Most sessions at a time from one address in each worker; mynetworks are exempt.", least=1
    )
    reverse_lookup: bool = setting(
        True, "Whether the client's name is looked up in DNS before it is greeted (Postfix smtpd_peername_lookup)."
    )


ROLE_DEFAULTS: Mapping[Role, Mapping[str, Any]] = {
    "mx": {},
    "submission": {"tls": "encrypt", "auth": True, "auth_required": True, "reverse_lookup": False},
    "submissions": {"tls": "wrapper", "auth": True, "auth_required": True, "reverse_lookup": False},
    "lmtp": {"tls": "none", "sender_restrictions": [], "reverse_lookup": False},
}
"""Where a role's default differs from the declaration above. What the file says wins over both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """Events, written in Postfix's line format and as JSON."""

    file: str = setting(
        "log/mail.log",
        'Where Postfix\'s format goes: a path below the home folder, "-" for standard output, or "" for nowhere.',
    )
    json_file: str = setting("", 'Where JSON lines go: a path, "-" or "".')
    syslog_name: str = setting(
        "postfix", "The name before the slash in `postfix/smtpd[1]:`; pflogsumm and fail2ban look for it."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """Certificates and what connections must at least be."""

    certificates: list[str] = setting(
        [],
        "Certificate chains in PEM, each with its key beside it as `.key`; all of `tls/*.crt` below the home folder where empty.",
    )
    minimum_version: Literal["TLSv1.2", "TLSv1.3"] = setting("TLSv1.2", "The oldest TLS version spoken.")


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """How long mail waits, and how much of it is in memory."""

    minimal_backoff_time: Seconds = setting(5 * MINUTE, "The shortest pause between two attempts.", least=1)
    maximal_backoff_time: Seconds = setting(4000.0, "The longest pause between two attempts.", least=1)
    maximal_queue_lifetime: Seconds = setting(5 * DAY, "How long mail is tried before it is returned.", least=0)
    bounce_queue_lifetime: Seconds = setting(5 * DAY, "How long a bounce is tried before it is dropped.", least=0)
    delay_warning_time: Seconds = setting(4 * HOUR, "When the sender is told that mail is late; 0 for never.", least=0)
    active_limit: int = setting(
        20_000, "Most recipients in the memory of one worker; the others wait on disk.", least=10
    )
    memory_limit: Bytes = setting(
        64 * MEBI,
        "Most bytes of message bodies in the memory of one worker; the others are read back from disk.",
        least=1 * MEBI,
    )
    body_file_size: Bytes = setting(
        256 * KIBI, "Bodies from this size on are kept in files beside the database.", least=1 * KIBI
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """How mail leaves."""

    relayhost: str = setting(
        "",
        "Where all mail for other domains goes: `[host]`, `[host]:port` or a domain with MX hosts; the recipient's own MX hosts where empty.",
    )
    tls: ClientTls = setting(
        "may", "none, may (TLS where the next hop offers it) or encrypt (no mail without TLS) towards next hops."
    )
    destination_concurrency_limit: int = setting(
        20, "Most connections at a time to one next hop from each worker.", least=1, most=1000
    )
    initial_destination_concurrency: int = setting(
        5, "Connections at a time to a next hop not yet known to be good.", least=1, most=1000
    )
    destination_recipient_limit: int = setting(
        50, "Most recipients in one transaction to a next hop.", least=1, most=1000
    )
    connection_limit: int = setting(500, "Most connections at a time to all next hops from each worker.", least=1)
    connection_cache_time: Seconds = setting(3.0, "How long an idle connection to a next hop is kept.", least=0)
    connection_reuse_time: Seconds = setting(
        300.0, "How long a connection to a next hop is used again at most.", least=0
    )
    connect_time_limit: Seconds = setting(30.0, "How long connecting to one address may take.", least=1)
    command_time_limit: Seconds = setting(5 * MINUTE, "How long a next hop may take to answer a command.", least=1)
    data_time_limit: Seconds = setting(
        10 * MINUTE, "How long a next hop may take to answer the end of a message.", least=1
    )
    mx_address_limit: int = setting(5, "Most addresses of a destination tried in one attempt.", least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSettings:
    """The resolver."""

    servers: list[str] = setting(
        [], 'Name servers to ask, as "192.0.2.53" or "127.0.0.1:5353"; those of /etc/resolv.conf where empty.'
    )
    timeout: Seconds = setting(5.0, "How long one question may take in all.", least=0.1, most=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySettings:
    """Who lives here."""

    database: str = setting(
        "directory.sqlite", "The SQLite file with domains, accounts and forwards, below the home folder."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardSettings:
    """How addresses are expanded."""

    recursion_limit: int = setting(
        20, "Longest chain of forwards (Postfix virtual_alias_recursion_limit).", least=1, most=200
    )
    expansion_limit: int = setting(
        1000, "Most recipients one address may become (Postfix virtual_alias_expansion_limit).", least=1, most=100_000
    )
    propagate_extension: bool = setting(
        True, "Whether `user+tag` carries its tag to the targets of `user` (Postfix propagate_unmatched_extensions)."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxSettings:
    """Where mail is kept."""

    path: str = setting("mail/{domain}/{local}", "The Maildir of an account, below the home folder.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordSettings:
    """How passwords are hashed: argon2id (RFC 9106)."""

    argon2_time_cost: int = setting(3, "Passes over the memory.", least=1, most=100)
    argon2_memory_cost: Bytes = setting(64 * MEBI, "Memory of one hash.", least=8 * KIBI, most=4096 * MEBI)
    argon2_parallelism: int = setting(1, "Threads of one hash.", least=1, most=64)
    hash_threads: int = setting(2, "Hashes at a time in each worker; further logins wait their turn.", least=1, most=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole of gatepost.toml."""

    hostname: str = setting("", "This host's full name, as greetings, Received and bounces give it. It must be set.")
    postmaster: str = setting(
        "",
        "Who gets mail for `postmaster` without a domain and reports of trouble; `postmaster@` and the first domain where empty.",
    )
    recipient_delimiter: str = setting("+", "What separates `user` from `tag` in `user+tag`; empty for no tags.")
    workers: int = setting(0, "Worker processes; 0 for one per processor core.", least=0, most=1023)
    user: str = setting("", "The user workers run as when Gatepost was started by root.")
    group: str = setting("", "The group workers run as; the user's own where empty.")
    listener: list[ListenerSettings] = setting([], "Sockets that take mail, one `[[listener]]` each.")
    log: LogSettings = field(default_factory=LogSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    queue: QueueSettings = field(default_factory=QueueSettings)
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    dns: DnsSettings = field(default_factory=DnsSettings)
    directory: DirectorySettings = field(default_factory=DirectorySettings)
    forwards: ForwardSettings = field(default_factory=ForwardSettings)
    mailboxes: MailboxSettings = field(default_factory=MailboxSettings)
    passwords: PasswordSettings = field(default_factory=PasswordSettings)
    home: Path = field(
        default=Path(), metadata={"sentence": "The home folder: where the file was read from.", "given": True}
    )
