from __future__ import annotations

from pathlib import Path

import pytest

from gatepost.config.checks import CHECKS
from gatepost.config.load import parse_settings
from gatepost.config.problems import Check, SettingsError
from gatepost.config.settings import Settings

NAMED = 'hostname = "mail.example.test"\n'
LISTENING = '[[listener]]\naddress = "127.0.0.1:2525"\n'


def parse(text: str) -> Settings:
    return parse_settings(text, file="gatepost.toml", home=Path("/home/mail"))


def only_problem(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert len(caught.value.problems) == 1, str(caught.value)
    return str(caught.value).removeprefix("gatepost.toml:")


WRONG = [
    ("", "1: hostname: must be set; write this host's full name"),
    ("# nothing\nhostname = ''", "2: hostname: must be set"),
    ("hostname = 'mail_1.test'", '1: hostname: "mail_1.test" is no host name'),
    ("hostname = '192.0.2.1'", '1: hostname: "192.0.2.1" is no host name but a number'),
    (
        NAMED + LISTENING + "hostname = 'bücher.test'",
        '4: listener.hostname: "bücher.test" is not in ASCII; write it as xn--',
    ),
    (NAMED + "[[listener]]\nrole = 'mx'", "2: listener.address: must be set; write where it listens"),
    (NAMED + "[[listener]]\naddress = 'localhost:25'", '3: listener.address: "localhost:25" holds no IP address'),
    (NAMED + LISTENING * 2, '5: listener.address: "127.0.0.1:2525" is taken by the listener on line 3; change one'),
    (
        NAMED + "[[listener]]\naddress = '[::1]:25'\n[[listener]]\naddress = '[0:0::1]:25'",
        '5: listener.address: "[0:0::1]:25" is taken by the listener on line 3',
    ),
    (
        NAMED + "[[listener]]\naddress = 'unix:run/lmtp'\n[[listener]]\naddress = 'unix:/home/mail/./run/lmtp'",
        '5: listener.address: "unix:/home/mail/./run/lmtp" is taken by the listener on line 3',
    ),
    (NAMED + f"[[listener]]\naddress = 'unix:{'x' * 98}'", '3: listener.address: names "/home/mail/xxx'),
    (
        NAMED + LISTENING + "mynetworks = ['0.0.0.0/0']",
        "4: listener.mynetworks: 0.0.0.0/0 is wider than /8 and would let",
    ),
    (
        NAMED + LISTENING + "mynetworks = [\n'::1',\n'2000::/15' ]",
        "6: listener.mynetworks: 2000::/15 is wider than /16",
    ),
    (
        NAMED + LISTENING + "soft_error_limit = 60\nhard_error_limit = 10",
        "4: listener.soft_error_limit: soft_error_limit is 60 and hard_error_limit 10, so a session ends before any reply is",
    ),
    (
        NAMED + LISTENING + "hard_error_limit = 10",
        "4: listener.hard_error_limit: soft_error_limit is 10 and hard_error_limit 10",
    ),
    (
        NAMED + LISTENING + "auth_required = true",
        "4: listener.auth_required: auth_required is true while auth is false",
    ),
    (
        NAMED + LISTENING + "role = 'submission'\nauth = false",
        "5: listener.auth: auth_required is true while auth is false, so no mail could ever come in; set auth = true",
    ),
    (
        NAMED + LISTENING + "auth = true\ntls = 'none'",
        '4: listener.auth: auth is true, but tls = "none" and auth_without_tls = false, so nobody could ever log in',
    ),
    (NAMED + LISTENING + "role = 'submission'\ntls = 'none'", '5: listener.tls: auth is true, but tls = "none"'),
    (NAMED + LISTENING + "role = 'lmtp'\nauth = true", '5: listener.auth: auth is true, but tls = "none"'),
    (NAMED + "postmaster = 'root'", '2: postmaster: "root" is no address (address has no domain); write it like'),
    (
        NAMED + "recipient_delimiter = '+-'",
        '2: recipient_delimiter: "+-" cannot separate user from tag; write one character',
    ),
    (NAMED + "recipient_delimiter = '@'", '2: recipient_delimiter: "@" cannot separate user from tag'),
    (NAMED + "recipient_delimiter = 'a'", '2: recipient_delimiter: "a" cannot separate user from tag'),
    (NAMED + "[log]\nsyslog_name = 'post fix'", '3: log.syslog_name: "post fix" cannot stand in a log line'),
    (NAMED + "[log]\nsyslog_name = ''", '3: log.syslog_name: "" cannot stand in a log line'),
    (
        NAMED + "[queue]\nminimal_backoff_time = '2h'",
        "3: queue.minimal_backoff_time: minimal_backoff_time is 2h and maximal_backoff_time 1h6m40s; set the minimal one to",
    ),
    (
        NAMED + "[queue]\nmaximal_backoff_time = 1",
        "3: queue.maximal_backoff_time: minimal_backoff_time is 5m and maximal_b",
    ),
    (
        NAMED + "[delivery]\n\ninitial_destination_concurrency = 21",
        "4: delivery.initial_destination_concurrency: initial_destination_concurrency is 21 and destination_concurrency_limit 20",
    ),
    (
        NAMED + "[delivery]\ndestination_concurrency_limit = 1",
        "3: delivery.destination_concurrency_limit: initial_dest",
    ),
    (
        NAMED + "[delivery]\nrelayhost = '192.0.2.1'",
        '3: delivery.relayhost: "192.0.2.1" is an IP address; put it in brackets',
    ),
    (NAMED + "[delivery]\nrelayhost = '[mail.example.test'", '3: delivery.relayhost: "[mail.example.test" is no host'),
    (NAMED + "[dns]\nservers = [\n'192.0.2.53',\n'dns.test']", '5: dns.servers: "dns.test" holds no IP address'),
    (NAMED + "[directory]\ndatabase = ''", "3: directory.database: must not be empty; write a file name"),
    (
        NAMED + "[mailboxes]\npath = 'mail'",
        '3: mailboxes.path: "mail" must have {domain} and {local} once each; write both, like',
    ),
    (NAMED + "[mailboxes]\npath = 'mail/{local}'", "3: mailboxes.path: "),
    (NAMED + "[mailboxes]\npath = '{domain}/{local}/{local}'", "3: mailboxes.path: "),
    (
        NAMED + "[mailboxes]\npath = '{domain}/{local}/{user}'",
        '3: mailboxes.path: "{domain}/{local}/{user}" has other braces',
    ),
    (NAMED + "[mailboxes]\npath = '{domain}/{local}/{'", '3: mailboxes.path: "{domain}/{local}/{" has other braces'),
    (NAMED + "[mailboxes]\npath = '{domain}/{{local}}'", '3: mailboxes.path: "{domain}/{{local}}" has other braces'),
    (
        NAMED + "[mailboxes]\npath = '{local}.{domain}'",
        '3: mailboxes.path: "{local}.{domain}" must have "/" or "@" between',
    ),
    (
        NAMED + "[mailboxes]\npath = '../{domain}/{local}'",
        '3: mailboxes.path: "../{domain}/{local}" must not hold ".."',
    ),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_what_contradicts_itself_is_told_with_its_line(text: str, told: str) -> None:
    assert only_problem(text).startswith(told)


RIGHT = [
    LISTENING + "mynetworks = ['10.0.0.0/8', '2000::/16', '127.0.0.1']",
    LISTENING + "soft_error_limit = 9\nhard_error_limit = 10",
    LISTENING + "auth = true\nauth_without_tls = true\ntls = 'none'",
    "[[listener]]\naddress = 'unix:run/lmtp'\nrole = 'lmtp'\ntls = 'wrapper'",
    f"[[listener]]\naddress = 'unix:{'x' * 96}'",
    "postmaster = 'postmaster@example.test'\nrecipient_delimiter = ''",
    "recipient_delimiter = '-'",
    "[queue]\nminimal_backoff_time = '1h'\nmaximal_backoff_time = '1h'",
    "[delivery]\nrelayhost = '[2001:db8::1]:587'\ninitial_destination_concurrency = 20",
    "[dns]\nservers = ['127.0.0.1:5353', '::1']",
    "[mailboxes]\npath = 'mail/{local}@{domain}/Maildir'",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_at_the_bound_is_taken(text: str) -> None:
    assert parse(NAMED + text).hostname == "mail.example.test"


@pytest.mark.parametrize(
    "text",
    [
        NAMED + "[queue]\nminimal_backoff_time = 'soon'\nmaximal_backoff_time = 1",
        NAMED + LISTENING + "soft_error_limit = 'x'\nhard_error_limit = 1",
        NAMED + LISTENING + "role = 'submision'\nauth_required = true",
        NAMED + "[[listener]]\naddress = 25",
        "hostname = 5",
    ],
)
def test_what_follows_from_a_fault_already_told_is_not_told(text: str) -> None:
    assert only_problem(text)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_check_could_be_left_out(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(text: str) -> bool:
        try:
            return bool(parse(text))
        except SettingsError:
            return False

    assert not any(loads(text) for text, _ in WRONG)
    monkeypatch.setattr("gatepost.config.load.CHECKS", tuple(other for other in CHECKS if other is not check))
    assert any(loads(text) for text, _ in WRONG)
