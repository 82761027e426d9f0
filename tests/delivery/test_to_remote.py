"""The SMTP agent against next hops that do well, badly and wickedly: right outcome, bounded time, nothing lost."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from random import Random

import pytest

from deliveries import CONTENT, ListWork, delivery, eventually, job, run, settings
from gatepost.config.settings import DeliverySettings
from gatepost.delivery.agent import Delivery
from gatepost.delivery.connection import Terms
from gatepost.delivery.next_hop import NextHops, Ourselves
from gatepost.delivery.to_remote import RemoteAgent
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.net.dns_zone import StaticDns
from gatepost.queue.records import CHUNK, Body
from peers.bad_next_hop import GOOD, GREETING, BadNextHop
from peers.sink import SmtpSink

HOST = "127.0.0.1[127.0.0.1]"


def agent(with_settings: DeliverySettings | None = None, dns: StaticDns | None = None) -> RemoteAgent:
    chosen = with_settings or settings()
    hops = NextHops(dns or StaticDns(), Random(1), Ourselves(), chosen.mx_address_limit)
    return RemoteAgent(hops, Terms("me.test", chosen))


def deliver(hop: BadNextHop, *deliveries: Delivery, pressed: bool = False) -> dict[int, list[Outcome]]:
    """What becomes of them at `hop`, in at most 5 seconds."""

    async def work() -> dict[int, list[Outcome]]:
        async with hop:
            remote, todo = agent(), ListWork(*deliveries, pressed=pressed)
            async with asyncio.timeout(5):
                while todo.waiting:
                    await remote.run(hop.next_hop, todo)
            await remote.close()
            assert todo.taken == []
            return todo.ended

    return run(work())


def outcome_at(script: str, *more: str) -> Outcome:
    (outcome,) = deliver(BadNextHop(script, *more), delivery(1))[1]
    return outcome


# Good next hops


def test_messages_over_one_connection() -> None:
    hop = BadNextHop(GOOD)
    ended = deliver(hop, *(delivery(number) for number in range(5)))
    assert hop.connections == 1
    assert hop.contents == [CONTENT] * 5
    for outcomes in ended.values():
        (outcome,) = outcomes
        assert isinstance(outcome, Delivered)
        assert (outcome.text, outcome.status, outcome.dsn_passed_on) == ("250 2.0.0 queued", "2.0.0", False)
        assert outcome.relay.startswith(f"{HOST}:")
    assert hop.heard[-1] == "QUIT"


def test_next_group_goes_right_behind_the_content_once_the_host_proved_quick() -> None:
    hop = BadNextHop(GOOD)
    ended = deliver(hop, *(delivery(number) for number in range(20)), pressed=True)
    assert [type(outcomes[0]) for outcomes in ended.values()] == [Delivered] * 20
    assert hop.contents == [CONTENT] * 20


def test_helo_only_server_without_pipelining() -> None:
    outcome = outcome_at(
        """
        S: 220 old
        C: EHLO me.test
        S: 500 what?
        C: HELO me.test
        S: 250 old
        FOREVER
        MESSAGE
        """
    )
    assert isinstance(outcome, Delivered)


def test_a_stranger_takes_what_we_send_as_it_was() -> None:
    content = b"Subject: x\r\n\r\n" + b"..two\r\n.\r\n.one\r\n" * 1000 + b"no line end"
    wish = job(0, notify=frozenset({"SUCCESS"}), orcpt="rfc822;u0+x@dest.test")
    with SmtpSink() as sink:

        async def work() -> ListWork:
            remote = agent()
            todo = ListWork(delivery(1, wish, job(1), content=content, ret="HDRS", envid="id 1", eight_bit=True))
            await remote.run(sink.relayhost, todo)
            await remote.close()
            return todo

        ended = run(work()).ended[1]
        (taken,) = sink.wait(1)
    assert taken.content == content + b"\r\n"
    assert (taken.sender, taken.recipients) == ("alice@src.test", ("u0@dest.test", "u1@dest.test"))
    assert taken.sender_parameters == (f"SIZE={len(content)}", "BODY=8BITMIME", "RET=HDRS", "ENVID=id+201")
    assert taken.recipient_parameters == (("NOTIFY=SUCCESS", "ORCPT=rfc822;u0+2Bx@dest.test"), ())
    assert all(isinstance(outcome, Delivered) and outcome.dsn_passed_on for outcome in ended)


# Refusals


@pytest.mark.parametrize(
    ("replies", "kind", "said", "status"),
    [
        (("550 5.7.1 no", "503 no", "503 no"), Failed, "550 5.7.1 no (in reply to MAIL FROM command)", "5.7.1"),
        (("451 4.3.0 no", "503 no", "503 no"), Deferred, "451 4.3.0 no (in reply to MAIL FROM command)", "4.3.0"),
        (("250 ok", "550 5.1.1 who", "554 no"), Failed, "550 5.1.1 who (in reply to RCPT TO command)", "5.1.1"),
        (("250 ok", "450 4.2.0 wait", "554 no"), Deferred, "450 4.2.0 wait (in reply to RCPT TO command)", "4.2.0"),
        (("250 ok", "552 5.5.3 many", "554 no"), Deferred, "552 5.5.3 many (in reply to RCPT TO command)", "4.5.3"),
        (("250 ok", "552 5.2.2 full", "554 no"), Failed, "552 5.2.2 full (in reply to RCPT TO command)", "5.2.2"),
        (("250 ok", "250 ok", "554 bad"), Failed, "554 bad (in reply to DATA command)", "5.0.0"),
        (("250 ok", "250 ok", "452 4.3.1 disk"), Deferred, "452 4.3.1 disk (in reply to DATA command)", "4.3.1"),
    ],
)
def test_refused_commands(replies: tuple[str, str, str], kind: type, said: str, status: str) -> None:
    mail, rcpt, data = replies
    script = f"{GREETING}C: MAIL\nC: RCPT\nC: DATA\nS: {mail}\nS: {rcpt}\nS: {data}\nFOREVER\nMESSAGE"
    ended = deliver(BadNextHop(script), delivery(1), delivery(2))
    (outcome,) = ended[1]
    assert isinstance(outcome, (Deferred, Failed))
    assert (type(outcome), outcome.status, outcome.remote_reply) == (kind, status, True)
    assert outcome.text == f"host {HOST} said: {said}"
    assert not (isinstance(outcome, Deferred) and outcome.site_failed)
    assert isinstance(ended[2][0], Delivered)  # RSET where it was needed, and the connection goes on


@pytest.mark.parametrize(
    ("reply", "kind", "status"),
    [
        ("554 5.6.0 spam", Failed, "5.6.0"),
        ("451 4.7.1 later", Deferred, "4.7.1"),
        ("421 4.3.2 down", Deferred, "4.3.2"),
    ],
)
def test_refused_content(reply: str, kind: type, status: str) -> None:
    outcome = outcome_at(
        f"{GREETING}C: MAIL\nC: RCPT\nC: DATA\nS: 250 a\nS: 250 b\nS: 354 c\nCONTENT\nS: {reply}\nC: QUIT"
    )
    assert isinstance(outcome, (Deferred, Failed))
    assert (type(outcome), outcome.status) == (kind, status)
    assert outcome.text.endswith(f"said: {reply} (in reply to end of DATA command)")


def test_each_recipient_has_its_own_outcome() -> None:
    script = f"""{GREETING}C: MAIL
C: RCPT TO:<u0@
C: RCPT TO:<u1@
C: RCPT TO:<u2@
C: DATA
S: 250 ok
S: 250 ok
S: 550-5.1.1 no such user
S: 550 5.1.1 really
S: 450 4.2.1 mailbox busy
S: 354 go on
CONTENT
S: 250 2.0.0 queued
C: QUIT
"""
    hop = BadNextHop(script)
    good, bad, busy = deliver(hop, delivery(1, job(0), job(1), job(2)))[1]
    assert isinstance(good, Delivered) and isinstance(bad, Failed) and isinstance(busy, Deferred)
    assert "said: 550 5.1.1 no such user really (in reply to RCPT TO command)" in bad.text
    assert not busy.site_failed
    assert hop.contents == [CONTENT]


def test_nobody_accepted_and_354_gets_a_lone_dot_and_never_the_content() -> None:
    script = f"{GREETING}C: MAIL\nC: RCPT\nC: DATA\nS: 250 a\nS: 550 5.1.1 no\nS: 354 c\nCONTENT\nS: 250 2.0.0 queued\nC: QUIT"
    hop = BadNextHop(script)
    (outcome,) = deliver(hop, delivery(1))[1]
    assert isinstance(outcome, Failed)
    assert hop.contents == [b""]


def test_mail_refused_and_all_else_accepted_is_still_refused() -> None:
    script = (
        f"{GREETING}C: MAIL\nC: RCPT\nC: DATA\nS: 550 no\nS: 250 ok\nS: 354 c\nCONTENT\nS: 250 2.0.0 queued\nC: QUIT"
    )
    assert isinstance(outcome_at(script), Failed)


def test_too_large_for_the_next_hop() -> None:
    script = "S: 220 mx\nC: EHLO\nS: 250-mx\nS: 250 SIZE 1000\nFOREVER\nMESSAGE"
    hop = BadNextHop(script)
    ended = deliver(hop, delivery(1, content=b"x" * 1001), delivery(2, content=b"x" * 1000))
    (outcome,) = ended[1]
    assert isinstance(outcome, Failed)
    assert outcome.status == "5.3.4"
    assert outcome.text == "message size 1001 exceeds size limit 1000 of server 127.0.0.1[127.0.0.1]"
    assert isinstance(ended[2][0], Delivered)


def test_smtputf8_where_it_is_needed_and_not_offered() -> None:
    utf8_header, plain = "Subject: Grüße\r\n\r\nx\r\n".encode(), CONTENT
    ended = deliver(
        BadNextHop(GOOD),
        delivery(1, job(0, "bjørn@dest.test"), smtputf8=True),
        delivery(2, sender="ålice@src.test", smtputf8=True),
        delivery(3, content=utf8_header, smtputf8=True),
        delivery(4, content=plain, smtputf8=True),  # all ASCII: may go anywhere
        delivery(5, content=utf8_header),  # raw 8-bit header, no SMTPUTF8 asked for: as it came
    )
    for number in (1, 2, 3):
        (outcome,) = ended[number]
        assert isinstance(outcome, Failed) and outcome.status == "5.6.7"
    assert isinstance(ended[4][0], Delivered) and isinstance(ended[5][0], Delivered)


# Greeting trouble


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ("S: 421 4.3.2 busy", "4.3.2", "refused to talk to me: 421 4.3.2 busy"),
        ("S: 450 busy", "4.0.0", "refused to talk to me: 450 busy"),
        ("S: 554 5.7.1 not you", "4.7.1", "refused to talk to me: 554 5.7.1 not you"),
        ("S: 220 mx\nC: EHLO\nS: 421 4.3.2 busy", "4.3.2", "refused to talk to me: 421 4.3.2 busy"),
        ("S: 220 mx\nC: EHLO\nS: 500 no\nC: HELO\nS: 550 name", "4.0.0", "refused to talk to me: 550 name"),
        ("CLOSE", "4.4.2", "lost connection with H while receiving the initial server greeting"),
        ("RESET", "4.4.2", "lost connection with H while receiving the initial server greeting"),
        ("SILENCE", "4.4.2", "conversation with H timed out while receiving the initial server greeting"),
        ("S: 220 mx\nC: EHLO\nCLOSE", "4.4.2", "lost connection with H while performing the EHLO handshake"),
        ("S: 220 mx\nC: EHLO\nSILENCE", "4.4.2", "conversation with H timed out while performing the EHLO handshake"),
        ("S: 220 mx\nC: EHLO\nS: 500 no\nC: HELO\nCLOSE", "4.4.2", "while performing the HELO handshake"),
        ("S: SSH-2.0-OpenSSH_9.2", "4.5.0", "broke the protocol while receiving the initial server greeting"),
        ("S: HTTP/1.1 400 Bad Request\nCLOSE", "4.5.0", "broke the protocol"),
        ("FLOOD x 1000000", "4.5.0", "reply line longer than 2048 bytes"),
        ("S> 220 mx\\n220 mx\\n\nSILENCE", "4.5.0", "bare LF"),
        ("S: 220 mx\nC: EHLO\nFLOOD 2 1000000", "4.5.0", "while performing the EHLO handshake"),
        ("S: 220 mx\nC: EHLO\n" + "S: 250-more\n" * 101 + "SILENCE", "4.5.0", "more than 100 lines"),
        ("S: 220 mx\nS: 250 unasked\nSILENCE", "4.5.0", "reply to nothing: 250"),
        ("S> 220-dribble\\r\\n\nDRIBBLE 2", "4.4.2", "timed out"),
    ],
)  # fmt: skip
def test_hosts_that_cannot_be_talked_to(script: str, status: str, words: str) -> None:
    outcome = outcome_at(script)
    assert isinstance(outcome, Deferred)
    assert outcome.status == status
    assert words.replace("H ", f"{HOST} ") in outcome.text
    assert outcome.site_failed


def test_connection_refused() -> None:
    async def work() -> Outcome:
        async with BadNextHop("CLOSE") as hop:
            closed = hop.next_hop
        todo = ListWork(delivery(1))
        await agent().run(closed, todo)
        return todo.ended[1][0]

    outcome = run(work())
    assert isinstance(outcome, Deferred) and outcome.site_failed and outcome.status == "4.4.1"
    assert re.fullmatch(r"connect to 127\.0\.0\.1\[127\.0\.0\.1\]:\d+: Connection refused", outcome.text)


# Trouble in the middle


REPLIES = ["S: 250 ok", "S: 250 ok", "S: 354 go on"]
GROUP = f"{GREETING}C: MAIL\nC: RCPT\nC: DATA\n"


@pytest.mark.parametrize("how", ["CLOSE", "RESET", "SILENCE", "S: nonsense", "FLOOD 2 100000", "S: 299-x\nSILENCE"])
@pytest.mark.parametrize(
    ("before", "doing"),
    [
        (GROUP, "sending MAIL FROM"),
        (GROUP + "S: 250 ok\n", "sending RCPT TO"),
        (GROUP + "S: 250 ok\nS: 250 ok\n", "sending DATA command"),
        (GROUP + "S: 250 ok\nS: 250 ok\nS: 354 go on\nCONTENT\n", "sending end of data"),
    ],
)
def test_breaking_off_defers(before: str, doing: str, how: str) -> None:
    started = time.monotonic()
    outcome = outcome_at(before + how)
    assert time.monotonic() - started < 3
    assert isinstance(outcome, Deferred)
    assert outcome.site_failed
    assert f" while {doing}" in outcome.text
    assert outcome.status == ("4.5.0" if "protocol" in outcome.text else "4.4.2")


@pytest.mark.parametrize("before", [GROUP, GROUP + "S: 250 ok\n", GROUP + "S: 250 ok\nS: 250 ok\n"])
def test_421_in_the_middle_defers_without_blaming_the_site(before: str) -> None:
    outcome = outcome_at(before + "S: 421 4.7.0 enough\nCLOSE")
    assert isinstance(outcome, Deferred)
    assert not outcome.site_failed and outcome.remote_reply
    assert "said: 421 4.7.0 enough (in reply to " in outcome.text


def test_recipients_refused_before_the_break_stay_refused() -> None:
    script = f"{GREETING}C: MAIL\nC: RCPT\nC: RCPT\nC: DATA\nS: 250 ok\nS: 550 5.1.1 no\nCLOSE"
    failed, lost = deliver(BadNextHop(script), delivery(1, job(0), job(1)))[1]
    assert isinstance(failed, Failed) and isinstance(lost, Deferred)


def test_refusal_in_the_middle_of_a_large_body() -> None:
    body = b"x" * 78 + b"\r\n"
    script = f"{GROUP}S: 250 ok\nS: 250 ok\nS: 354 go on\nREAD 1000\nS: 552 5.3.4 too big\nSILENCE"
    (outcome,) = deliver(BadNextHop(script), delivery(1, content=body * 50_000))[1]
    assert isinstance(outcome, Failed) and outcome.status == "5.3.4"


def test_acceptance_in_the_middle_of_a_large_body_is_not_believed() -> None:
    body = b"x" * 78 + b"\r\n"
    script = f"{GROUP}S: 250 ok\nS: 250 ok\nS: 354 go on\nREAD 1000\nS: 250 2.0.0 queued\nSILENCE"
    (outcome,) = deliver(BadNextHop(script), delivery(1, content=body * 50_000))[1]
    assert isinstance(outcome, Deferred) and outcome.status == "4.5.0"


@pytest.mark.parametrize("how", ["DEAF", "CLOSE", "RESET"])
def test_a_peer_that_stops_reading_the_body(how: str) -> None:
    body = b"x" * 78 + b"\r\n"
    script = f"{GROUP}S: 250 ok\nS: 250 ok\nS: 354 go on\nREAD 1000\n{how}"
    (outcome,) = deliver(BadNextHop(script), delivery(1, content=body * 100_000))[1]
    assert isinstance(outcome, Deferred)
    assert "sending message body" in outcome.text


# Kept connections


@pytest.mark.parametrize(
    "end", ["CLOSE", "RESET", "C: MAIL\nCLOSE", "C: MAIL\nS: 421 4.7.0 enough\nCLOSE", "C: MAIL\nS: 250 ok\nRESET"]
)
@pytest.mark.parametrize("pressed", [False, True])
def test_stale_connection_costs_nothing(end: str, pressed: bool) -> None:
    hop = BadNextHop(f"{GREETING}MESSAGE\nMESSAGE\n{end}", GOOD)
    ended = deliver(hop, *(delivery(number, content=b"%d\r\n" % number) for number in range(6)), pressed=pressed)
    assert [type(outcomes[0]) for outcomes in ended.values()] == [Delivered] * 6
    assert sorted(hop.contents) == [b"%d\r\n" % number for number in range(6)]
    assert hop.connections == 2


def test_connections_that_go_stale_again_and_again_end_in_deferral() -> None:
    hop = BadNextHop(f"{GREETING}MESSAGE\nC: MAIL\nCLOSE", f"{GREETING}C: MAIL\nCLOSE")
    ended = deliver(hop, delivery(1), delivery(2))
    assert isinstance(ended[1][0], Delivered)
    assert isinstance(ended[2][0], Deferred)
    assert hop.connections == 2


@pytest.mark.parametrize("how", ["CLOSE", "S: 421 4.3.2 down"])
def test_lost_behind_the_end_of_data_is_deferred_and_not_sent_again(how: str) -> None:
    hop = BadNextHop(
        f"{GREETING}MESSAGE\nC: MAIL\nS: 250 a\nC: RCPT\nS: 250 b\nC: DATA\nS: 354 c\nCONTENT\n{how}", GOOD
    )
    ended = deliver(hop, delivery(1), delivery(2), delivery(3), pressed=True)
    assert isinstance(ended[1][0], Delivered)
    assert isinstance(ended[2][0], Deferred)  # it may have been delivered
    assert isinstance(ended[3][0], Delivered)  # its group went behind that content, and nothing was lost
    assert len(hop.contents) == 3


def test_resting_connection_is_used_again_and_then_closed_in_order() -> None:
    async def work() -> None:
        async with BadNextHop(GOOD) as hop:
            remote, todo = agent(), ListWork(delivery(1), keeps=True)
            running = asyncio.create_task(remote.run(hop.next_hop, todo))
            await eventually(lambda: todo.resting)
            todo.add(delivery(2))
            await eventually(lambda: 2 in todo.ended and todo.resting)
            await asyncio.wait_for(running, 3)  # connection_cache_time
            assert todo.resting == []
            await eventually(lambda: "QUIT" in hop.heard)
            assert hop.connections == 1
            await remote.close()

    run(work())


def test_resting_connection_is_given_up_on_demand() -> None:
    async def work() -> None:
        async with BadNextHop(GOOD) as hop:
            remote, todo = agent(settings(connection_cache_time=60.0)), ListWork(delivery(1), keeps=True)
            running = asyncio.create_task(remote.run(hop.next_hop, todo))
            await eventually(lambda: todo.resting)
            todo.resting.pop().give_up()
            await asyncio.wait_for(running, 1)
            await eventually(lambda: "QUIT" in hop.heard)
            await remote.close()

    run(work())


def test_resting_connection_that_the_peer_closes() -> None:
    async def work() -> None:
        async with BadNextHop(f"{GREETING}MESSAGE\nS: 421 4.4.2 idle too long\nCLOSE") as hop:
            remote, todo = agent(settings(connection_cache_time=60.0)), ListWork(delivery(1), keeps=True)
            await asyncio.wait_for(remote.run(hop.next_hop, todo), 3)
            assert todo.resting == [] and isinstance(todo.ended[1][0], Delivered)
            await remote.close()

    run(work())


def test_connection_retires_after_its_time() -> None:
    async def work() -> None:
        async with BadNextHop(GOOD) as hop:
            remote, todo = agent(settings(connection_reuse_time=0.0)), ListWork(delivery(1), delivery(2))
            await remote.run(hop.next_hop, todo)
            assert list(todo.ended) == [1] and len(todo.waiting) == 1
            await remote.close()

    run(work())


def test_cancelled_in_the_middle_leaves_no_socket_and_no_outcome() -> None:
    async def work() -> None:
        async with BadNextHop(f"{GROUP}SILENCE") as hop:
            remote, todo = agent(settings(command_time_limit=60.0)), ListWork(delivery(1))
            running = asyncio.create_task(remote.run(hop.next_hop, todo))
            await eventually(lambda: "DATA" in hop.heard)
            running.cancel()
            await asyncio.wait([running])
            await remote.close()
            assert len(todo.taken) == 1 and todo.ended == {}

    run(work())


# More than one host


class TwoHosts:
    """Two next hops on one port of 127.0.0.1 and 127.0.0.2."""

    def __init__(self, first: str, second: str) -> None:
        self.first, self.second = BadNextHop(first), BadNextHop(second)

    async def deliver(self, *deliveries: Delivery) -> dict[int, list[Outcome]]:
        dns = StaticDns(
            mx={"dest.test": [(10, "first.test"), (20, "second.test")]},
            addresses={"first.test": ["127.0.0.1"], "second.test": ["127.0.0.2"]},
        )
        async with self.first:
            self.second.port, self.second.address = self.first.port, "127.0.0.2"
            async with self.second:
                remote, todo = agent(dns=dns), ListWork(*deliveries)
                while todo.waiting:
                    await remote.run(f"dest.test:{self.first.port}", todo)
                await remote.close()
                return todo.ended


@pytest.mark.parametrize(
    "first",
    [
        "CLOSE",
        "S: 554 not here",
        "S: 421 busy",
        "SILENCE",
        "S: garbage",
        f"{GROUP}S: 451 a\nS: 503 b\nS: 503 c\nC: QUIT",
        f"{GROUP}S: 250 a\nS: 450 b\nS: 503 c\nC: QUIT",
        f"{GROUP}S: 250 a\nS: 250 b\nS: 354 c\nCONTENT\nS: 451 d\nC: QUIT",
        f"{GROUP}CLOSE",
    ],
)
def test_next_host_takes_it(first: str) -> None:
    hosts = TwoHosts(first, GOOD)
    (outcome,) = run(hosts.deliver(delivery(1)))[1]
    assert isinstance(outcome, Delivered)
    assert outcome.relay.startswith("second.test[127.0.0.2]:")


@pytest.mark.parametrize("reply", ["550 5.1.1 no", "554 5.7.1 no"])
def test_5yz_is_final_whatever_other_hosts_there_are(reply: str) -> None:
    hosts = TwoHosts(f"{GROUP}S: 250 a\nS: {reply}\nS: 503 c\nC: QUIT", GOOD)
    (outcome,) = run(hosts.deliver(delivery(1)))[1]
    assert isinstance(outcome, Failed)
    assert hosts.second.connections == 0


def test_only_those_deferred_are_tried_at_the_next_host() -> None:
    first = (
        f"{GREETING}C: MAIL\nC: RCPT\nC: RCPT\nC: RCPT\nC: DATA\n"
        "S: 250 a\nS: 250 b\nS: 450 c\nS: 550 d\nS: 354 e\nCONTENT\nS: 250 f\nC: QUIT"
    )
    second = f"{GREETING}C: MAIL\nC: RCPT TO:<u1@\nC: DATA\nS: 250 a\nS: 250 b\nS: 354 c\nCONTENT\nS: 250 g\nC: QUIT"
    hosts = TwoHosts(first, second)
    one, two, three = run(hosts.deliver(delivery(1, job(0), job(1), job(2))))[1]
    assert isinstance(one, Delivered) and one.relay.startswith("first.test")
    assert isinstance(two, Delivered) and two.relay.startswith("second.test")
    assert isinstance(three, Failed)


def test_lost_after_the_end_of_data_is_not_tried_elsewhere() -> None:
    hosts = TwoHosts(f"{GROUP}S: 250 a\nS: 250 b\nS: 354 c\nCONTENT\nCLOSE", GOOD)
    (outcome,) = run(hosts.deliver(delivery(1)))[1]
    assert isinstance(outcome, Deferred)
    assert "message may be sent more than once" in outcome.text
    assert hosts.second.connections == 0


def test_softly_refused_and_then_nobody_there() -> None:
    hosts = TwoHosts(f"{GROUP}S: 250 a\nS: 450 4.2.0 greylisted\nS: 503 c\nC: QUIT", "CLOSE")
    (outcome,) = run(hosts.deliver(delivery(1)))[1]
    assert isinstance(outcome, Deferred)
    assert "greylisted" in outcome.text and not outcome.site_failed


def test_later_mail_begins_with_the_preferred_host_again() -> None:
    busy_once = f"{GROUP}S: 250 a\nS: 450 4.2.0 greylisted\nS: 503 c\nC: QUIT"
    hosts = TwoHosts(busy_once, GOOD)
    hosts.first = BadNextHop(busy_once, GOOD)
    ended = run(hosts.deliver(delivery(1), delivery(2)))
    assert [outcomes[0].relay.partition("[")[0] for outcomes in ended.values()] == ["second.test", "first.test"]


# Large bodies


def test_memory_stays_flat_with_a_slow_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "body"
    line = b"." + b"x" * 77 + b"\r\n"
    path.write_bytes(line * 100_000)  # 8 MB
    todo = delivery(1)
    todo.message.body = Body(path.stat().st_size, b"", None, path)
    largest = 0

    async def work() -> Outcome:
        nonlocal largest
        async with BadNextHop(GOOD) as hop:
            from gatepost.delivery import connection

            real_flush = connection.Connection._flush

            def watched(self: connection.Connection) -> None:
                nonlocal largest
                real_flush(self)
                if self._transport is not None:
                    largest = max(largest, self._transport.get_write_buffer_size())

            monkeypatch.setattr(connection.Connection, "_flush", watched)
            remote, list_work = agent(settings(command_time_limit=10.0, data_time_limit=10.0)), ListWork(todo)
            await remote.run(hop.next_hop, list_work)
            await remote.close()
            assert hop.contents == [line * 100_000]
            return list_work.ended[1][0]

    assert isinstance(run(work()), Delivered)
    assert largest < 3 * CHUNK


def test_body_that_cannot_be_read_is_deferred_and_nothing_half_is_delivered(tmp_path: Path) -> None:
    gone = delivery(1)
    gone.message.body = Body(100, b"", None, tmp_path / "missing")
    hop = BadNextHop(GOOD)
    ended = deliver(hop, gone, delivery(2))
    (outcome,) = ended[1]
    assert isinstance(outcome, Deferred) and outcome.status == "4.3.0" and not outcome.site_failed
    assert "No such file" in outcome.text
    assert isinstance(ended[2][0], Delivered)
    assert hop.contents == [CONTENT]
