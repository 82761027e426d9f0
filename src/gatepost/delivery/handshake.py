"""A connection to a next hop from its first packet until it is ready for mail: connect, greeting, EHLO, STARTTLS.

`DeliverySettings.tls` says about TLS:

  none      no TLS
  may       STARTTLS where it is offered, whoever the certificate names (RFC 7435); a host whose handshake fails is
            connected to once more and spoken to in the clear
  encrypt   no mail without TLS

Every failure is a `HostUnusable` with the outcome for the mail, in Postfix's words. Time limits: connect_time_limit for
connecting and for the TLS handshake, command_time_limit for each reply.
"""

from __future__ import annotations

import asyncio
import os

from gatepost.delivery import answers
from gatepost.delivery.connection import Connection, HostUnusable, Terms
from gatepost.delivery.next_hop import HostAddress
from gatepost.mail.outcome import Deferred
from gatepost.protocols.smtp.client_events import Event, Refused


class _HandshakeFailed(Exception):
    """TLS was begun and did not come about."""


async def open_connection(address: HostAddress, terms: Terms) -> Connection:
    """A connection ready for `begin`, once its owner is set. Raises HostUnusable."""
    try:
        return await _open(address, terms, wants_tls=terms.settings.tls != "none")
    except _HandshakeFailed as failure:
        if terms.settings.tls == "encrypt":
            text = f"TLS is required, but the handshake with host {address} failed: {failure}"
            raise HostUnusable(Deferred(address.relay, text, "4.7.5", site_failed=True)) from None
    return await _open(address, terms, wants_tls=False)


async def _open(address: HostAddress, terms: Terms, *, wants_tls: bool) -> Connection:
    connection = await _connect(address, terms)
    try:
        _check(await connection.next_event(), address)
        _check(await connection.introduce(), address)
        if wants_tls and await _start_tls(connection, terms):
            _check(await connection.introduce(), address)  # RFC 3207 §4.2: what was learned in the clear is void
    except BaseException:
        connection.abort()
        raise
    connection.ready()
    return connection


async def _connect(address: HostAddress, terms: Terms) -> Connection:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(terms.settings.connect_time_limit):
            _, connection = await loop.create_connection(lambda: Connection(address, terms), address.ip, address.port)
            return connection
    except TimeoutError:
        reason = "Connection timed out"
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
    raise HostUnusable(Deferred("none", f"connect to {address.relay}: {reason}", "4.4.1", site_failed=True))


async def _start_tls(connection: Connection, terms: Terms) -> bool:
    """Whether TLS stands. Raises _HandshakeFailed, HostUnusable."""
    address, is_required = connection.address, terms.settings.tls == "encrypt"
    if not connection.capabilities.starttls:
        if is_required:
            text = f"TLS is required, but was not offered by host {address}"
            raise HostUnusable(Deferred(address.relay, text, "4.7.4", site_failed=True))
        return False
    try:
        event = await connection.ask_for_tls()
    except HostUnusable as error:
        raise _HandshakeFailed(error.outcome.text) from None
    if isinstance(event, Refused):
        if is_required:
            text = f"TLS is required, but host {address} refused to start TLS: {event.reply}"
            raise HostUnusable(Deferred(address.relay, text, "4.7.4", site_failed=True, remote_reply=True))
        return False
    assert terms.tls is not None, "Terms.tls is missing"
    try:
        await connection.handshake(terms.tls)
    except OSError as error:
        raise _HandshakeFailed(str(error) or type(error).__name__) from None
    return True


def _check(event: Event, address: HostAddress) -> None:
    if isinstance(event, Refused):
        raise HostUnusable(answers.refused_session(event.reply, address))
