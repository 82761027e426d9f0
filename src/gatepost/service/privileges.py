"""Becoming the user that workers run as, for good, once the ports are bound."""

from __future__ import annotations

import grp
import os
import pwd


class PrivilegeError(Exception):
    """The user or group does not exist, or Gatepost may not become it. The text says what to do."""


def drop_privileges(user: str, group: str, *, demo: bool) -> None:
    """Give up root for `user` and `group` ("" for the user's own). Raises PrivilegeError.

    Without root nothing is done, and nothing can be: whoever started us is who we are. Root without a user is refused; so is
    the user root, but for a `demo`: a server that nobody outside this machine can reach.
    """
    if os.geteuid() != 0:
        return
    if not user:
        raise PrivilegeError(
            "started as root, and the setting user is empty: set it to the user that Gatepost shall run as "
            "once its ports are bound"
        )
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(
            f"user: there is no user {user!r}; make one with `adduser --system --group {user}`"
        ) from None
    try:
        gid = grp.getgrnam(group).gr_gid if group else account.pw_gid
    except KeyError:
        raise PrivilegeError(f"group: there is no group {group!r}") from None
    if account.pw_uid == 0 and demo:
        return
    if account.pw_uid == 0:
        raise PrivilegeError("user: root is not a user to run as")
    os.initgroups(user, gid)
    os.setgid(gid)
    os.setuid(account.pw_uid)
    os.environ["HOME"] = account.pw_dir
