"""What a newcomer does first: `gatepost init --demo`, `gatepost serve`, and the lines that ./start prints for copying."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatepost.service.channel import ask_once
from peers.ports import free_port
from peers.postfix import processes_of_group
from peers.programs import require
from peers.sink import wait_until

START = Path(__file__).parents[2] / "start"
PORTS = {port: free_port() for port in (2525, 2587, 2465)}


@dataclass(frozen=True, slots=True)
class Demo:
    """A home that `gatepost init` made, on ports of its own."""

    home: Path
    said: str

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "gatepost", "--home", str(self.home), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def new(self) -> int:
        folder = self.home / "mail" / "demo.test" / "alice" / "new"
        return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    home = tmp_path_factory.mktemp("newcomer") / "home"
    command = [sys.executable, "-m", "gatepost", "--home", str(home)]
    said = subprocess.run(
        [*command, "init", "demo.test", "--demo"], capture_output=True, text=True, timeout=60, check=True
    )
    settings = home / "gatepost.toml"
    text = settings.read_text()
    for port, own in PORTS.items():
        assert f'"127.0.0.1:{port}"' in text
        text = text.replace(f":{port}", f":{own}")
    # Nobody is to be looked up outside this machine.
    settings.write_text(text.replace("[[listener]]", "[[listener]]\nreverse_lookup = false"))
    server = subprocess.Popen(
        [*command, "serve"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        assert server.stdout is not None
        ready = [server.stdout.readline() for _ in range(4)]
        assert ready[-1] == "Gatepost serves mail.demo.test; Ctrl-C ends it.\n", ready
        yield Demo(home, said.stdout)
    finally:
        os.killpg(server.pid, 2)  # Ctrl-C reaches the whole group
        rest = server.communicate(timeout=60)[0]
        wait_until(lambda: not processes_of_group(server.pid), 20)
    assert (server.returncode, rest) == (0, "")


def line(beginning: str, containing: str = "") -> str:
    """The line of ./start that begins and goes on so, joined where it was broken, with our ports."""
    text = START.read_text().partition("cat <<TEXT\n")[2].partition("\nTEXT\n")[0]
    text = text.replace("\\\\\n", " ").replace("\\$", "$").replace("\\\\r\\\\n", "\\r\\n")
    for port, own in PORTS.items():
        text = text.replace(f":{port}", f":{own}")
    found = [each.strip() for each in text.splitlines() if each.strip().startswith(beginning) and containing in each]
    assert len(found) == 1, (beginning, containing, found, text)
    return found[0].replace(".venv/bin/gatepost", f"{sys.executable} -m gatepost")


def copy(demo: Demo, command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """The line, as somebody pastes it."""
    return subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "home": str(demo.home)},
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_init_says_what_it_made_and_keeps_secrets(demo: Demo) -> None:
    for part in ("gatepost.toml", "demo.test", "alice@demo.test", "first-password", "hello@demo.test"):
        assert part in demo.said
    password = demo.home / "first-password"
    assert password.read_text().strip() not in demo.said
    for secret in (password, demo.home / "tls" / "ca" / "ca.key", demo.home / "tls" / "mail.demo.test.key"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert demo.run("init", "demo.test", "--demo") == ""  # goes on with what is there


@pytest.mark.peer
@pytest.mark.parametrize(
    ("program", "beginning", "containing"),
    [
        ("", ".venv/bin/gatepost", "--via mx"),
        ("swaks", "swaks", "alice+news@demo.test"),
        ("", ".venv/bin/gatepost", "--password-file"),
        ("swaks", "swaks", "--tls"),
        ("curl", "printf", "smtps://"),
    ],
)
def test_each_line_to_copy_sends_a_message(demo: Demo, program: str, beginning: str, containing: str) -> None:
    if program:
        require(program)
    before = demo.new()
    done = copy(demo, line(beginning, containing))
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(lambda: demo.new() == before + 1)


@pytest.mark.peer
def test_the_line_that_is_refused_is_refused(demo: Demo) -> None:
    require("swaks")
    done = copy(demo, line("swaks", "carol@elsewhere.test"))
    assert done.returncode == 24 and "554 5.7.1 <carol@elsewhere.test>: Relay access denied" in done.stdout


@pytest.mark.peer
def test_the_line_for_openssl_connects(demo: Demo) -> None:
    require("openssl")
    done = copy(demo, line("openssl"), "QUIT\n")
    assert "Verify return code: 0 (ok)" in done.stdout


def test_the_lines_that_ask(demo: Demo) -> None:
    explained = copy(demo, line(".venv/bin/gatepost", "explain"))
    assert explained.returncode == 0 and "alice@demo.test" in explained.stdout
    listed = copy(demo, line(".venv/bin/gatepost", "queue list"))
    assert "Nothing of that kind is waiting." in listed.stdout


def test_an_idle_worker_is_small_and_an_idle_session_smaller(demo: Demo) -> None:
    def memory() -> list[int]:
        answer = ask_once(demo.home / "run" / "control.sock", {"do": "status"})
        assert answer is not None
        return [worker["memory"] for worker in answer["workers"]]

    before = memory()
    clients = []
    try:
        for _ in range(40):  # as many as one address may have in the worst case
            clients.append(socket.create_connection(("127.0.0.1", PORTS[2525]), timeout=10))
            assert clients[-1].recv(1000).startswith(b"220 ")
        grown = sum(memory()) - sum(before)
    finally:
        for client in clients:
            client.close()
    print(f"idle workers: {[size // 1024 for size in before]} KiB; a session {grown / 40 / 1024:.1f} KiB")
    assert max(before) < 70 * 1024 * 1024
    assert grown < 40 * 40 * 1024


def test_config_says_it_is_right(demo: Demo) -> None:
    assert re.search(r"gatepost.toml is right$", demo.run("config", "check"), re.MULTILINE)
    assert 'hostname = "mail.demo.test"' in demo.run("config", "show")
