"""The kit's Gatepost starts, is stopped or killed, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from peers.gatepost import GatepostInstance
from peers.postfix import refuses_connections
from peers.sink import wait_until


def test_it_starts_and_leaves_no_process_and_no_port(tmp_path: Path) -> None:
    with GatepostInstance(tmp_path, workers=2) as gatepost:
        processes = gatepost.processes()
        assert len(processes) == 3 and gatepost.pid in processes
        with gatepost.smtp("mx") as client:
            client.sendmail("x@far.test", ["ann@here.test"], b"Subject: kit\r\n\r\nx\r\n")
        assert len(gatepost.wait_for_mail("ann@here.test", "kit")) == 1
        assert gatepost.memory() > 10_000_000
    assert gatepost.processes() == []
    assert all(refuses_connections(port) for port in gatepost.ports.values())


def test_workers_notice_that_their_master_was_killed(tmp_path: Path) -> None:
    with GatepostInstance(tmp_path) as gatepost:
        gatepost.kill()
        wait_until(lambda: not gatepost.processes(), 20)
        gatepost.start()
        assert gatepost.stop() == 0


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    gatepost = GatepostInstance(tmp_path)
    gatepost.home.settings_file.write_text("nonsense = 1\n")
    with pytest.raises(AssertionError, match=r"Gatepost did not start:\n.*gatepost\.toml:1: nonsense: "), gatepost:
        pass
    assert gatepost.processes() == []


def test_what_is_left_behind_is_killed_and_complained_of(tmp_path: Path) -> None:
    gatepost = GatepostInstance(tmp_path)
    with pytest.raises(AssertionError, match="were left behind"), gatepost:
        for worker in gatepost.status():
            os.kill(worker["pid"], signal.SIGSTOP)  # it cannot notice
        gatepost.kill()
    assert gatepost.processes() == []
