"""Root is given up for good, or the start is refused."""

from __future__ import annotations

import grp
import json
import os
import subprocess
import sys

import pytest

from gatepost.service.privileges import PrivilegeError, drop_privileges
from peers.programs import require_root

DROP = """
import json, os, sys
from gatepost.service.privileges import drop_privileges
drop_privileges(sys.argv[1], sys.argv[2], demo=False)
try:
    os.setuid(0)
    back = True
except PermissionError:
    back = False
print(json.dumps({"uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "back": back}))
"""


def test_root_becomes_the_user_and_cannot_go_back() -> None:
    require_root("only root can become somebody else")
    done = subprocess.run([sys.executable, "-c", DROP, "nobody", ""], capture_output=True, text=True, check=True)
    state = json.loads(done.stdout)
    assert len(set(state["uids"])) == 1
    assert len(set(state["gids"])) == 1
    assert state["uids"][0] != 0
    assert 0 not in [*state["gids"], *state["groups"]]
    assert not state["back"]


def test_the_group_may_be_another() -> None:
    require_root("only root can become somebody else")
    wanted = grp.getgrnam("daemon").gr_gid
    done = subprocess.run([sys.executable, "-c", DROP, "nobody", "daemon"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["gids"] == [wanted] * 3


@pytest.mark.parametrize(
    ("user", "group", "why"),
    [
        ("", "", "started as root, and the setting user is empty"),
        ("no-such-user", "", "there is no user 'no-such-user'; make one with `adduser"),
        ("nobody", "no-such-group", "there is no group 'no-such-group'"),
        ("root", "", "root is not a user to run as"),
    ],
)
def test_root_is_not_kept(user: str, group: str, why: str) -> None:
    require_root("others have nothing to give up")
    with pytest.raises(PrivilegeError, match=why):
        drop_privileges(user, group, demo=False)
    assert os.geteuid() == 0


def test_who_is_not_root_stays_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    drop_privileges("no-such-user", "", demo=False)
