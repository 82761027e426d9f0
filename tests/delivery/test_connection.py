"""Connections to next hops: STARTTLS in all its moods, and the one timer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import uvloop

from deliveries import CONTENT, ListWork, delivery, run, settings
from gatepost.delivery.connection import Terms
from gatepost.delivery.handshake import open_connection
from gatepost.delivery.next_hop import HostAddress, NextHops, Ourselves
from gatepost.delivery.to_remote import RemoteAgent
from gatepost.mail.outcome import Deferred, Delivered, Outcome
from gatepost.net.dns_zone import StaticDns
from gatepost.net.own_ca import OwnCa
from gatepost.net.tls_contexts import client_context
from peers.bad_next_hop import GREETING, GREETING_WITH_TLS, BadNextHop

TLS_AND_GOOD = f"{GREETING_WITH_TLS}S: 220 go on\nTLS\nC: EHLO\nS: 250-mx.test\nS: 250 PIPELINING\nFOREVER\nMESSAGE"
CLEAR_AND_GOOD = f"{GREETING_WITH_TLS.removesuffix(chr(10)).removesuffix('C: STARTTLS')}FOREVER\nMESSAGE"
STARTTLS = "C: STARTTLS"


@pytest.fixture(scope="module")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate that nobody trusts, for another name: good enough for opportunistic TLS."""
    folder: Path = tmp_path_factory.mktemp("ca")
    ca = OwnCa(folder)
    ca.create()
    issued = ca.issue(["elsewhere.test"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.path, issued.path.with_suffix(".key"))
    return context


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[object]:
    yield request.param


async def deliver(hop: BadNextHop, level: str, count: int = 1) -> list[Outcome]:
    async with hop:
        chosen = settings(tls=level, connect_time_limit=0.5)
        terms = Terms("me.test", chosen, client_context(verify=False))
        remote = RemoteAgent(NextHops(StaticDns(), Random(1), Ourselves(), 5), terms)
        work = ListWork(*(delivery(number) for number in range(count)))
        async with asyncio.timeout(5):
            while work.waiting:
                await remote.run(hop.next_hop, work)
        await remote.close()
        return [work.ended[number][0] for number in range(count)]


@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_tls_where_it_is_offered(server_tls: ssl.SSLContext, loop: object, level: str) -> None:
    hop = BadNextHop(TLS_AND_GOOD, tls=server_tls)
    outcomes = run(deliver(hop, level, 3), loop=loop)  # type: ignore[arg-type]
    assert [type(outcome) for outcome in outcomes] == [Delivered] * 3
    assert hop.contents == [CONTENT] * 3
    assert hop.connections == 1
    assert hop.heard[:4] == ["EHLO me.test", "STARTTLS", "EHLO me.test", "MAIL FROM:<alice@src.test>"]


def test_tls_none_does_not_ask_for_it() -> None:
    hop = BadNextHop(CLEAR_AND_GOOD)
    assert isinstance(run(deliver(hop, "none"))[0], Delivered)
    assert STARTTLS.removeprefix("C: ") not in hop.heard


BROKEN = {
    "closes": f"{GREETING_WITH_TLS}CLOSE",
    "closes after 220": f"{GREETING_WITH_TLS}S: 220 go on\nCLOSE",
    "resets after 220": f"{GREETING_WITH_TLS}S: 220 go on\nRESET",
    "no TLS after 220": f"{GREETING_WITH_TLS}S: 220 go on\nS: 250 this is not TLS\nSILENCE",
    "garbage for a reply": f"{GREETING_WITH_TLS}S: what?\nSILENCE",
    "silent after STARTTLS": f"{GREETING_WITH_TLS}SILENCE",
    "shuts down": f"{GREETING_WITH_TLS}S: 421 4.3.0 not now\nCLOSE",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_handshake_goes_on_in_the_clear_over_a_new_connection(name: str, loop: object) -> None:
    hop = BadNextHop(BROKEN[name], CLEAR_AND_GOOD)
    (outcome,) = run(deliver(hop, "may"), loop=loop)  # type: ignore[arg-type]
    assert isinstance(outcome, Delivered)
    assert hop.connections == 2
    assert hop.heard.count("STARTTLS") == 1


@pytest.mark.parametrize("name", BROKEN)
def test_broken_handshake_defers_where_tls_is_required(name: str) -> None:
    hop = BadNextHop(BROKEN[name], CLEAR_AND_GOOD)
    (outcome,) = run(deliver(hop, "encrypt"))
    assert isinstance(outcome, Deferred)
    assert outcome.status == "4.7.5" and outcome.site_failed
    assert "TLS is required, but the handshake with host 127.0.0.1[127.0.0.1] failed: " in outcome.text
    assert hop.connections == 1 and hop.contents == []


def test_silent_handshake_ends_in_time() -> None:
    hop = BadNextHop(f"{GREETING_WITH_TLS}S: 220 go on\nSILENCE", CLEAR_AND_GOOD)

    async def work() -> object:
        async with hop:
            address = HostAddress("127.0.0.1", "127.0.0.1", hop.port)
            terms = Terms("me.test", settings(tls="may", connect_time_limit=0.3), client_context(verify=False))
            connection = await asyncio.wait_for(open_connection(address, terms), 3)
            connection.quit()
            await connection.wait_closed()
            return hop.connections

    assert run(work()) == 2


def test_tls_not_offered_though_required() -> None:
    (outcome,) = run(deliver(BadNextHop(f"{GREETING}SILENCE"), "encrypt"))
    assert isinstance(outcome, Deferred)
    assert (outcome.status, outcome.text) == (
        "4.7.4",
        "TLS is required, but was not offered by host 127.0.0.1[127.0.0.1]",
    )


def test_tls_refused() -> None:
    refused = f"{GREETING_WITH_TLS}S: 454 4.7.0 no certificate\n"
    hop = BadNextHop(f"{refused}FOREVER\nMESSAGE")
    assert isinstance(run(deliver(hop, "may"))[0], Delivered)
    assert hop.connections == 1
    (outcome,) = run(deliver(BadNextHop(f"{refused}SILENCE"), "encrypt"))
    assert isinstance(outcome, Deferred)
    assert outcome.status == "4.7.4" and "refused to start TLS: 454 4.7.0 no certificate" in outcome.text


def test_what_is_injected_before_tls_is_dropped(server_tls: ssl.SSLContext, loop: object) -> None:
    # Replies that an attacker put behind the 220, in the same segment: a greeting that offers what the server does not,
    # and acceptance of everything. None of it may be heard (CVE-2011-0411 and kin).
    injected = "250-evil\\r\\n250 PIPELINING\\r\\n250 ok\\r\\n250 ok\\r\\n354 go\\r\\n250 2.0.0 stolen\\r\\n"
    script = f"""{GREETING_WITH_TLS}S> 220 go on\\r\\n{injected}
TLS
C: EHLO
S: 250 mx.test
C: MAIL
S: 550 5.7.1 not you
C: QUIT
"""
    (outcome,) = run(deliver(BadNextHop(script, tls=server_tls), "encrypt"), loop=loop)  # type: ignore[arg-type]
    assert outcome.text.startswith("host 127.0.0.1[127.0.0.1] said: 550 5.7.1 not you")


def test_timer_is_one_and_goes_with_the_connection() -> None:
    async def work() -> None:
        async with BadNextHop(f"{GREETING}SILENCE") as hop:
            address = HostAddress("127.0.0.1", "127.0.0.1", hop.port)
            connection = await open_connection(address, Terms("me.test", settings(command_time_limit=60.0)))
            timer = connection._timer
            assert timer is not None
            for _ in range(100):
                connection._expect_within(60.0)
            assert connection._timer is timer
            connection._expect_within(0.01)
            assert connection._timer is not timer and timer.cancelled()
            connection.abort()
            await connection.wait_closed()
            assert connection._timer is not None and connection._timer.cancelled()

    run(work())
