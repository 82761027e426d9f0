"""gatepost init, serve, status, reload, stop."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import socket

import click

from gatepost.cli.house import House
from gatepost.config.problems import SettingsError
from gatepost.config.settings import Settings
from gatepost.service.channel import Request
from gatepost.service.home import Home, HomeBusy
from gatepost.service.privileges import PrivilegeError
from gatepost.storage.errors import StorageError


@click.command("init")
@click.argument("domain")
@click.option("--hostname", default="", help="This host's full name; mail.DOMAIN where not given.")
@click.option("--user", default="", help="As root: the user Gatepost runs as and that owns the home folder.")
@click.option("--demo", is_flag=True, help="Loopback and ports above 1024 only: for trying it out.")
@click.pass_obj
def init(house: House, domain: str, hostname: str, user: str, demo: bool) -> None:
    """Furnish the home folder for DOMAIN: settings, database, own CA, certificate, a first account.

    What is there already is left alone.
    """
    from gatepost.admin.furnish import Plan, demo_user, furnish
    from gatepost.directory.edits import DirectoryError
    from gatepost.mail.address import BadAddress
    from gatepost.net.certificate_files import CaError

    if os.geteuid() == 0 and not user and not demo:
        raise click.ClickException("as root, say with --user who Gatepost shall run as, such as `--user gatepost`")
    if user:
        try:
            pwd.getpwnam(user)
        except KeyError:
            raise click.ClickException(
                f"there is no user {user!r}; make one with `adduser --system --group --home {house.home} {user}`"
            ) from None
    if demo and not user:
        user = demo_user(house.home)
    plan = Plan(domain, hostname or f"mail.{domain}", user, demo)
    try:
        for line in furnish(Home(house.home), plan):
            house.say(line)
    except (OSError, SettingsError, StorageError, CaError, DirectoryError, BadAddress) as error:
        raise click.ClickException(str(error)) from None


@click.command("serve")
@click.option("--quiet", is_flag=True, help="Do not say when it is ready.")
@click.pass_obj
def serve(house: House, quiet: bool) -> None:
    """Run the server until SIGTERM or Ctrl-C; SIGHUP reloads settings and certificates."""
    from gatepost.service.master import Master, MasterError

    async def run() -> None:
        ready: asyncio.Future[Settings] = asyncio.get_running_loop().create_future()
        if not quiet:
            ready.add_done_callback(lambda done: None if done.cancelled() else _say_ready(house, done.result()))
        await Master(Home(house.home)).run(ready)

    try:
        asyncio.run(run())
    except (MasterError, SettingsError, StorageError, HomeBusy, PrivilegeError, OSError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _say_ready(house: House, settings: Settings) -> None:
    for listener in settings.listener:
        house.say(f"{listener.role:12} {listener.address}")
    house.say(f"Gatepost serves {settings.hostname}; Ctrl-C ends it.")


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@click.pass_obj
def status(house: House, as_json: bool) -> None:
    """What the running server does: processes, sessions, queue, memory. Ends with 1 where none runs."""
    answer = _ask(house, {"do": "status"})
    if as_json:
        house.say(json.dumps(answer, indent=2))
        return
    house.say(f"master: process {answer['pid']} on {socket.gethostname()}")
    for worker in answer["workers"]:
        if "error" in worker:
            house.say(f"worker {worker['worker']}: process {worker['pid']}: {worker['error']}")
            continue
        house.say(
            f"worker {worker['worker']}: process {worker['pid']}, {worker['sessions']} sessions, "
            f"{worker['active']} active, {worker['waiting']} waiting, {worker['hold']} on hold, {worker['memory'] // 1024} KiB"
        )


@click.command("reload")
@click.pass_obj
def reload(house: House) -> None:
    """Make the running server read its settings and certificates anew; no connection is dropped."""
    workers = _ask(house, {"do": "reload"})["workers"]
    house.say("reloaded")
    for name in sorted({name for worker in workers for name in worker["waiting_for_restart"]}):
        house.say(f"waits for a restart: {name}")


@click.command("stop")
@click.pass_obj
def stop(house: House) -> None:
    """Stop the running server: messages on their way in are finished first."""
    _ask(house, {"do": "stop"})
    house.say("stopping")


def _ask(house: House, request: Request) -> Request:
    answer = house.ask(request)
    if answer is None:
        raise click.ClickException(f"no server runs in {house.home}")
    if "error" in answer:
        raise click.ClickException(str(answer["error"]))
    return answer
