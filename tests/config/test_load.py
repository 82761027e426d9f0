from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.config.load import load_settings, parse_settings
from gatepost.config.problems import Complaints, SettingsError
from gatepost.config.settings import ListenerSettings, Seconds, Settings

HOME = Path("/home/mail")
NAMED = 'hostname = "mail.example.test"\n'
LISTENING = '[[listener]]\naddress = "127.0.0.1:2525"\n'


def parse(text: str) -> Settings:
    return parse_settings(text, file="gatepost.toml", home=HOME)


def problems(text: str) -> list[str]:
    """What is told, without the file's name, which every problem must carry."""
    with pytest.raises(SettingsError) as caught:
        parse(text)
    lines = str(caught.value).split("\n")
    assert lines == [str(problem) for problem in caught.value.problems]
    assert all(line.startswith("gatepost.toml") for line in lines)
    return [line.removeprefix("gatepost.toml:") for line in lines]


def only_problem(text: str) -> str:
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


# --- what loads -------------------------------------------------------------------------------------------------------


def test_a_name_is_enough() -> None:
    assert parse(NAMED) == Settings(hostname="mail.example.test", home=HOME)


def test_every_kind_of_value() -> None:
    settings = parse(
        NAMED
        + """
        workers = 2
        [[listener]]
        address = "unix:run/lmtp"
        role = "lmtp"
        mynetworks = ["10.0.0.0/8", "[2001:db8::]/32"]
        helo_required = false
        message_size_limit = "64k"
        error_sleep_time = 0.5
        [queue]
        maximal_queue_lifetime = "1d12h"
        minimal_backoff_time = 60
        memory_limit = 2097152
        [tls]
        minimum_version = "TLSv1.3"
        """
    )
    (listener,) = settings.listener
    assert settings.workers == 2
    assert listener.mynetworks == [IPv4Network("10.0.0.0/8"), IPv6Network("2001:db8::/32")]
    assert listener.helo_required is False
    assert listener.message_size_limit == 65536
    assert listener.error_sleep_time == 0.5
    assert settings.queue.maximal_queue_lifetime == Seconds(129600)
    assert settings.queue.minimal_backoff_time == Seconds(60)
    assert settings.queue.memory_limit == 2097152
    assert settings.tls.minimum_version == "TLSv1.3"


def test_a_role_sets_defaults_and_the_file_wins_over_them() -> None:
    settings = parse(
        NAMED
        + """
        [[listener]]
        address = "127.0.0.1:2525"
        [[listener]]
        address = "127.0.0.1:2587"
        role = "submission"
        [[listener]]
        address = "127.0.0.1:2465"
        role = "submissions"
        auth_required = false
        name = "letters"
        """
    )
    mx, submission, submissions = settings.listener
    assert mx == ListenerSettings(name="mx 127.0.0.1:2525", address="127.0.0.1:2525")
    assert (submission.name, submission.tls, submission.auth, submission.auth_required, submission.reverse_lookup) == (
        "submission 127.0.0.1:2587",
        "encrypt",
        True,
        True,
        False,
    )
    assert (submissions.name, submissions.tls, submissions.auth_required) == ("letters", "wrapper", False)


def test_defaults_are_not_shared() -> None:
    first, second = (parse(NAMED + LISTENING + 'role = "lmtp"').listener[0] for _ in range(2))
    assert first.sender_restrictions is not second.sender_restrictions
    assert first.relay_restrictions is not second.relay_restrictions


def test_free_ports_may_be_asked_for_more_than_once() -> None:
    settings = parse(NAMED + '[[listener]]\naddress = "127.0.0.1:0"\n' * 2)
    assert len(settings.listener) == 2


def test_home_is_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gatepost.toml").write_bytes(b"\xef\xbb\xbf" + NAMED.encode())
    monkeypatch.chdir(tmp_path)
    assert load_settings(tmp_path / "gatepost.toml").home == tmp_path
    assert load_settings(Path("gatepost.toml")).home == tmp_path


# --- files that cannot be read ----------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file or directory") as caught:
        load_settings(tmp_path / "gatepost.toml")
    assert str(caught.value).startswith(f"{tmp_path}/gatepost.toml: ")


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_bytes(b'a = 1\nb = 2\nc = "\xfc"\n')
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert str(caught.value) == f"{file}:3: is not in UTF-8; save the file as UTF-8"


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    file = tmp_path / "gatepost.toml"
    file.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(SettingsError, match="larger than 1 MiB"):
        load_settings(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "workers = 1\nhostname = mail.example.test\n",
            "2: is not TOML at column 12: Invalid value; text stands in double",
        ),
        ("workers = 1\nhostname\n", "2: is not TOML at column 9: Expected '=' after a key"),
        ("workers = 1\n\nworkers = 2\n", "3: is not TOML at column 12: Cannot overwrite a value; correct this line"),
        ('workers = 1\nhostname = "mail\n', "2: is not TOML at column "),
        ('workers = 1\nhostname = """mail\n', "2: is not TOML at its end: "),
        ('[[listener]]\nmynetworks = [\n"10.0.0.0/8",\n', "3: is not TOML at its end: "),
        ("a = 1\nb = " + "[" * 100_000, "2: has lists or tables nested too deeply"),
        ("a = 1\nb = " + "9" * 10_000, "2: has a number with thousands of digits"),
    ],
)
def test_what_is_no_toml(text: str, told: str) -> None:
    assert only_problem(text).startswith(told)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("worker = 1", "2: worker: is not known; did you mean workers?"),
        ("Recipient-Delimiter = '+'", "2: Recipient-Delimiter: is not known; did you mean recipient_delimiter?"),
        ("Hostname = 'x'", "2: Hostname: is not known; did you mean hostname?"),
        ("message_size_limit = 1", "2: message_size_limit: is not known here; it belongs in [[listener]]"),
        (
            "command_time_limit = 1",
            "2: command_time_limit: is not known here; it belongs in [[listener]] or in [delivery]",
        ),
        (
            "[log]\nworkers = 1",
            "3: log.workers: is not known here; it belongs at the top of the file, above the first table",
        ),
        ("[queues]\na = 1", "2: queues: is not known; did you mean queue?"),
        (
            "[queue]\nmax_queue_lifetime = 1",
            "3: queue.max_queue_lifetime: is not known; did you mean maximal_queue_lifetime?",
        ),
        (
            "virtual_alias_recursion_limit = 1",
            "2: virtual_alias_recursion_limit: is not known; did you mean recursion_limit in [forwards]?",
        ),
        (
            "smtpd_soft_error_limit = 1",
            "2: smtpd_soft_error_limit: is not known; did you mean soft_error_limit in [[listener]]?",
        ),
        ('"a\\nb" = 1', '2: "a\\u000ab": is not known, nor is any name like it; take it out'),
        ("home = '/'", "2: home: cannot be set here; it is the folder this file is in, so take the line out"),
        (LISTENING + "tsl = 'may'", "4: listener.tsl: is not known; did you mean tls?"),
    ],
)
def test_names_nobody_knows(text: str, told: str) -> None:
    assert only_problem(NAMED + text) == told


# --- types and bounds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postmaster = 1", "2: postmaster: must be text, not the number 1; put it in double quotes"),
        ("postmaster = 1979-05-27", "2: postmaster: must be text, not a date or time; put it in double quotes"),
        ("postmaster = ['x']", "2: postmaster: must be text, not a list; put it in double quotes"),
        ('user = "a\\nb"', '2: user: "a\\u000ab" holds a control character or a line break; write it without'),
        ("workers = '2'", '2: workers: must be a whole number, not the text "2"; write it in digits, without quotes'),
        ("workers = 2.0", "2: workers: must be a whole number, not the number 2.0; write it in digits, without quotes"),
        ("workers = true", "2: workers: must be a whole number, not true; write it in digits, without quotes"),
        ("workers = -1", "2: workers: must be at least 0, not -1; raise it"),
        ("workers = 1024", "2: workers: must be at most 1023, not 1024; lower it"),
        ("workers = 0x" + "f" * 5000, "2: workers: is a number nothing here can have; write one of at most 2147483647"),
        (
            LISTENING + "auth = 'yes'",
            '4: listener.auth: must be true or false, not the text "yes"; write true or false',
        ),
        (LISTENING + "auth = 1", "4: listener.auth: must be true or false, not the number 1; write true or false"),
        (
            LISTENING + "tls = 'maybe'",
            '4: listener.tls: must be one of "none", "may", "encrypt", "wrapper", not "maybe"; did',
        ),
        (
            LISTENING + "tls = 'MAY'",
            '4: listener.tls: must be one of "none", "may", "encrypt", "wrapper", not "MAY"; did you',
        ),
        (
            LISTENING + "tls = true",
            '4: listener.tls: must be one of "none", "may", "encrypt", "wrapper", not true; write one',
        ),
        (
            LISTENING + "tls = 'zzz'",
            '4: listener.tls: must be one of "none", "may", "encrypt", "wrapper", not "zzz"; write one',
        ),
        (
            "[tls]\nminimum_version = 'TLSv1.1'",
            '3: tls.minimum_version: must be one of "TLSv1.2", "TLSv1.3", not "TLSv1.1"; did you mean "TLSv1.2"?',
        ),
        ("[queue]\nmemory_limit = '1 KiB'", "3: queue.memory_limit: must be at least 1 MiB, not 1 KiB; raise it"),
        ("[queue]\nmemory_limit = 'much'", '3: queue.memory_limit: "much" is no size; write it like "50 MiB"'),
        ("[queue]\nmemory_limit = 1.5", "3: queue.memory_limit: must be a size, not the number 1.5; write it like"),
        ("[queue]\nmemory_limit = 0x" + "f" * 5000, "3: queue.memory_limit: a size is between 0 and 8 EiB; write it"),
        (
            "[queue]\nminimal_backoff_time = 'soon'",
            '3: queue.minimal_backoff_time: "soon" is no time; write it like "5d"',
        ),
        (
            "[queue]\nminimal_backoff_time = 0.5",
            "3: queue.minimal_backoff_time: must be at least 1s, not 0.5s; raise it",
        ),
        (
            "[queue]\nminimal_backoff_time = nan",
            "3: queue.minimal_backoff_time: a time is between 0 and 10 years; write it",
        ),
        (
            "[queue]\nminimal_backoff_time = inf",
            "3: queue.minimal_backoff_time: a time is between 0 and 10 years; write it",
        ),
        (
            "[queue]\nminimal_backoff_time = -5",
            "3: queue.minimal_backoff_time: a time is between 0 and 10 years; write it",
        ),
        (
            "[queue]\nminimal_backoff_time = [5]",
            "3: queue.minimal_backoff_time: must be a time, not a list; write it like",
        ),
        ("[dns]\ntimeout = '61s'", "3: dns.timeout: must be at most 1m, not 1m1s; lower it"),
        (
            "[dns]\nservers = '192.0.2.53'",
            '3: dns.servers: must be a list of text, not the text "192.0.2.53"; write it in square',
        ),
        (
            "[dns]\nservers = [\n'192.0.2.53',\n  53 ]",
            "5: dns.servers: must be text, not the number 53; put it in double quotes",
        ),
        (LISTENING + "mynetworks = '10.0.0.0/8'", "4: listener.mynetworks: must be a list of networks, not the text"),
        (
            LISTENING + "mynetworks = [10]",
            "4: listener.mynetworks: must be a network, not the number 10; write it like",
        ),
        (
            LISTENING + "mynetworks = ['10.0.0.1/8']",
            '4: listener.mynetworks: "10.0.0.1/8" names an address inside a network',
        ),
        ("queue = 5", "2: queue: must be a table; write [queue] and its settings on the lines below"),
        ("[[queue]]", "2: queue: must be a table; write [queue] and its settings on the lines below"),
        ("[listener]", "2: listener: there may be several; write [[listener]], in double brackets"),
        ("listener = [\n1 ]", "3: listener: must be a table; write [[listener]] and its settings below"),
    ],
)
def test_types_and_bounds(text: str, told: str) -> None:
    assert only_problem(NAMED + text).startswith(told)


def test_everything_is_told_at_once_in_the_order_of_lines() -> None:
    found = problems(
        """\
        worker = 1
        workers = 1024
        [[listener]]
        mynetworks = [ "0.0.0.0/0",
          "10.1.2.3/8", "10.0.0.0/8",
          "x" ]
        [queue]
        active_limit = "many"
        """
    )
    assert [": ".join(line.split(": ")[:2]) for line in found] == [
        "1: worker",
        "1: hostname",
        "2: workers",
        "3: listener.address",
        "4: listener.mynetworks",
        "5: listener.mynetworks",
        "6: listener.mynetworks",
        "8: queue.active_limit",
    ]


def test_checks_of_other_rooms_are_told_beside_our_own() -> None:
    def check_restrictions(settings: Settings, complaints: Complaints) -> None:
        for number, listener in enumerate(settings.listener):
            for place, name in enumerate(listener.helo_restrictions):
                if name != "reject_invalid_helo_hostname":
                    complaints.say(
                        f'"{name}" is no restriction; see the list', ("listener", number, "helo_restrictions", place)
                    )

    text = LISTENING + 'helo_restrictions = [\n"reject_invalid_helo_hostname",\n"reject_all" ]'
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, file="g.toml", home=HOME, checks=[check_restrictions])
    assert (
        str(caught.value).split("\n")[1]
        == 'g.toml:5: listener.helo_restrictions: "reject_all" is no restriction; see the list'
    )
    assert len(caught.value.problems) == 2


# --- any text ---------------------------------------------------------------------------------------------------------

_NAMES = [
    "hostname",
    "workers",
    "postmaster",
    "name",
    "address",
    "tls",
    "mynetworks",
    "auth",
    "timeout",
    "servers",
    "path",
]
_NAMES += [
    "soft_error_limit",
    "message_size_limit",
    "relayhost",
    "listener",
    "home",
    "x",
    "queue.active_limit",
    '"\\u0000"',
]
_VALUES = [
    "1",
    "-1",
    "0.5",
    "nan",
    "1e999",
    "true",
    '"may"',
    '"5d"',
    '"50 MiB"',
    "[]",
    "{}",
    "[[]]",
    "1979-05-27",
    '""',
    "0xff",
]
_VALUES += [
    '["10.0.0.0/8"]',
    '["::/0", 1]',
    '"{domain}{local}"',
    '"127.0.0.1:25"',
    '"unix:x"',
    '"a.test"',
    '"\\ud7ff\\n"',
]
_VALUES += ['{ address = "127.0.0.1:0" }', '[{ role = "lmtp" }]', '"' + "x" * 300 + '"']
_LINES = st.one_of(
    st.tuples(st.sampled_from(_NAMES), st.sampled_from(_VALUES)).map(" = ".join),
    st.sampled_from(["[queue]", "[[listener]]", "[dns]", "[delivery]", "[listener.x]", "[x]", "[[x]]", "[mailboxes]"]),
)


@given(st.text() | st.lists(_LINES, max_size=10).map("\n".join))
def test_any_text_gives_settings_or_settings_error(text: str) -> None:
    try:
        settings = parse(text)
    except SettingsError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).isprintable()
            assert 0 <= problem.line <= text.count("\n") + 1
            assert ";" in problem.text or "did you mean" in problem.text
    else:
        assert settings.hostname


@given(st.binary(max_size=60))
def test_any_file_gives_settings_or_settings_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError):
        load_settings(file)
