"""What single values cannot show: text that must have a form, settings that contradict each other, and those that would
open the server to everyone. Each check looks at whole Settings and complains (see `problems.Check`)."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from gatepost.config.endpoints import (
    TcpAddress,
    UnixAddress,
    parse_host_name,
    parse_listen_address,
    parse_name_server,
    parse_relayhost,
)
from gatepost.config.locate import SettingPath
from gatepost.config.problems import Check, Complaints
from gatepost.config.settings import ListenerSettings, Settings
from gatepost.config.values import WrongValue, format_duration, quoted
from gatepost.mail.address import BadAddress, parse_address

WIDEST_NETWORK = {4: 8, 6: 16}  # prefix lengths; anything wider is the Internet rather than a network of ours
LONGEST_SOCKET_PATH = 107  # bytes; unix(7): sun_path has 108, one of them the final NUL

_DELIMITERS = "!#$%&'*+/=?^_`{|}~-."
_SYSLOG_NAME = re.compile(r"[A-Za-z0-9_./-]{1,64}")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}|[{}]")


def _parses(complaints: Complaints, path: SettingPath, parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except WrongValue as problem:
        complaints.say(str(problem), path)


def check_hostname(settings: Settings, complaints: Complaints) -> None:
    """The host has a name, and names are host names."""
    if settings.hostname:
        _parses(complaints, ("hostname",), parse_host_name, settings.hostname)
    else:
        complaints.say('must be set; write this host\'s full name, like hostname = "mail.example.org"', ("hostname",))
    for number, listener in enumerate(settings.listener):
        if listener.hostname:
            _parses(complaints, ("listener", number, "hostname"), parse_host_name, listener.hostname)


def check_addresses(settings: Settings, complaints: Complaints) -> None:
    """Each listener has an address of its own."""
    taken: dict[TcpAddress | UnixAddress, int] = {}
    for number, listener in enumerate(settings.listener):
        path: SettingPath = ("listener", number, "address")
        if not listener.address:
            complaints.say('must be set; write where it listens, like address = "127.0.0.1:2525"', path)
            continue
        try:
            address = parse_listen_address(listener.address)
        except WrongValue as problem:
            complaints.say(str(problem), path)
            continue
        if isinstance(address, UnixAddress):
            address = UnixAddress(posixpath.normpath(settings.home / address.path))
            _check_socket_path(address.path, complaints, path)
        elif address.port == 0:
            continue  # a free port each
        if address in taken:
            line = complaints.line_of(("listener", taken[address], "address"))
            complaints.say(f"{quoted(str(listener.address))} is taken by the listener on line {line}; change one", path)
        taken.setdefault(address, number)


def _check_socket_path(text: str, complaints: Complaints, path: SettingPath) -> None:
    length = len(os.fsencode(text))
    if length > LONGEST_SOCKET_PATH:
        complaints.say(
            f"names {quoted(text)}, {length} bytes long; a UNIX socket's path has at most {LONGEST_SOCKET_PATH}, shorten it",
            path,
        )


def check_networks(settings: Settings, complaints: Complaints) -> None:
    """Nobody becomes an open relay by a slip of the prefix length."""
    for number, listener in enumerate(settings.listener):
        for place, network in enumerate(listener.mynetworks):
            widest = WIDEST_NETWORK[network.version]
            if network.prefixlen < widest:
                complaints.say(
                    f"{network} is wider than /{widest} and would let everyone relay; name your own networks only",
                    ("listener", number, "mynetworks", place),
                )


def check_listeners(settings: Settings, complaints: Complaints) -> None:
    """What a listener says of itself fits together."""
    for number, listener in enumerate(settings.listener):
        _check_errors(listener, complaints, ("listener", number))
        _check_login(listener, complaints, ("listener", number))


def _check_errors(listener: ListenerSettings, complaints: Complaints, at: SettingPath) -> None:
    if listener.soft_error_limit >= listener.hard_error_limit:
        complaints.say(
            f"soft_error_limit is {listener.soft_error_limit} and hard_error_limit {listener.hard_error_limit}, so a session"
            " ends before any reply is delayed; set soft_error_limit below hard_error_limit",
            (*at, "soft_error_limit"),
            (*at, "hard_error_limit"),
        )


def _check_login(listener: ListenerSettings, complaints: Complaints, at: SettingPath) -> None:
    if listener.auth_required and not listener.auth:
        complaints.say(
            "auth_required is true while auth is false, so no mail could ever come in; set auth = true",
            (*at, "auth_required"),
            (*at, "auth"),
            (*at, "role"),  # it sets the defaults of the others
        )
    if listener.auth and listener.tls == "none" and not listener.auth_without_tls:
        complaints.say(
            'auth is true, but tls = "none" and auth_without_tls = false, so nobody could ever log in; set tls = "may"',
            (*at, "auth"),
            (*at, "tls"),
            (*at, "auth_without_tls"),
            (*at, "role"),
        )


def check_postmaster(settings: Settings, complaints: Complaints) -> None:
    """Reports of trouble have somewhere to go."""
    if settings.postmaster:
        try:
            parse_address(settings.postmaster)
        except BadAddress as problem:
            complaints.say(
                f"{quoted(settings.postmaster)} is no address ({problem}); write it like postmaster@example.org",
                ("postmaster",),
            )


def check_recipient_delimiter(settings: Settings, complaints: Complaints) -> None:
    """The delimiter is one character that can stand in an address and does not stand in ordinary names."""
    delimiter = settings.recipient_delimiter
    if delimiter and (len(delimiter) > 1 or delimiter not in _DELIMITERS):
        complaints.say(
            f'{quoted(delimiter)} cannot separate user from tag; write one character like "+" or "-", or ""',
            ("recipient_delimiter",),
        )


def check_log(settings: Settings, complaints: Complaints) -> None:
    """The name in each log line does not break the line's format."""
    if not _SYSLOG_NAME.fullmatch(settings.log.syslog_name):
        complaints.say(
            f'{quoted(settings.log.syslog_name)} cannot stand in a log line; write letters, digits, "-", "_", "." or "/"',
            ("log", "syslog_name"),
        )


def check_queue(settings: Settings, complaints: Complaints) -> None:
    """Pauses grow from the shortest to the longest."""
    shortest, longest = settings.queue.minimal_backoff_time, settings.queue.maximal_backoff_time
    if shortest > longest:
        complaints.say(
            f"minimal_backoff_time is {format_duration(shortest)} and maximal_backoff_time {format_duration(longest)};"
            " set the minimal one to the maximal one or below",
            ("queue", "minimal_backoff_time"),
            ("queue", "maximal_backoff_time"),
        )


def check_delivery(settings: Settings, complaints: Complaints) -> None:
    """Mail can leave."""
    delivery = settings.delivery
    if delivery.relayhost:
        _parses(complaints, ("delivery", "relayhost"), parse_relayhost, delivery.relayhost)
    if delivery.initial_destination_concurrency > delivery.destination_concurrency_limit:
        complaints.say(
            f"initial_destination_concurrency is {delivery.initial_destination_concurrency} and"
            f" destination_concurrency_limit {delivery.destination_concurrency_limit}; set the initial one to the limit or below",
            ("delivery", "initial_destination_concurrency"),
            ("delivery", "destination_concurrency_limit"),
        )


def check_name_servers(settings: Settings, complaints: Complaints) -> None:
    """Name servers are addresses."""
    for place, server in enumerate(settings.dns.servers):
        _parses(complaints, ("dns", "servers", place), parse_name_server, server)


def check_directory(settings: Settings, complaints: Complaints) -> None:
    """The directory is kept somewhere."""
    if not settings.directory.database:
        complaints.say('must not be empty; write a file name like "directory.sqlite"', ("directory", "database"))


def check_mailbox_path(settings: Settings, complaints: Complaints) -> None:
    """Each account has a Maildir of its own: no two addresses give the same path."""
    text = settings.mailboxes.path
    problem = _mailbox_path_problem(text)
    if problem:
        complaints.say(f'{quoted(text)} {problem}, like "mail/{{domain}}/{{local}}"', ("mailboxes", "path"))


def _mailbox_path_problem(text: str) -> str:
    found = _PLACEHOLDER.findall(text)
    if any(one not in {"{domain}", "{local}"} for one in found):
        return "has other braces than {domain} and {local}; write these only"
    if sorted(found) != ["{domain}", "{local}"]:
        return "must have {domain} and {local} once each; write both"
    # Neither may hold a slash, and a domain holds no "@": without one of them between, a.b@c and a@b.c could meet.
    if not set(_PLACEHOLDER.split(text)[1]) & {"/", "@"}:
        return 'must have "/" or "@" between {domain} and {local}; write one there'
    if ".." in Path(text).parts or text.startswith("/"):
        return 'must not hold ".." nor begin with "/"; write a path below the home folder'
    return ""


CHECKS: tuple[Check, ...] = (
    check_hostname,
    check_addresses,
    check_networks,
    check_listeners,
    check_postmaster,
    check_recipient_delimiter,
    check_log,
    check_queue,
    check_delivery,
    check_name_servers,
    check_directory,
    check_mailbox_path,
)
