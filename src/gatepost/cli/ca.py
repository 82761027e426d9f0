"""gatepost ca: our own certificate authority, and certificates for hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatepost.cli.house import House

if TYPE_CHECKING:
    from gatepost.net.own_ca import CertificateFacts, OwnCa

MOST_DAYS = 3650

days_option = click.option(
    "--days", type=click.IntRange(1, MOST_DAYS), default=825, show_default=True, help="How long it is valid."
)
hosts_argument = click.argument("hosts", nargs=-1, required=True, metavar="HOST...")


@click.group("ca")
def ca() -> None:
    """Our own certificate authority, and certificates for hosts.

    A running server picks up a renewed certificate by itself; one for another host at the next `gatepost reload`.
    """


@ca.command("init")
@click.option("--name", default="Gatepost own CA", show_default=True, help="What clients see as the issuer.")
@click.option("--force", is_flag=True, help="Replace the CA that is there; what it signed is trusted no more.")
@click.pass_obj
def make_ca(house: House, name: str, force: bool) -> None:
    """Make the CA."""
    with own_ca_of(house) as own_ca:
        say_facts(house, own_ca.create(name, replace=force))
        house.say(f"Give this file to clients that are to trust it: {own_ca.certificate}")


@ca.command("request")
@hosts_argument
@click.option("--force", is_flag=True, help="Replace the request that is there; its key is kept.")
@click.pass_obj
def make_request(house: House, hosts: tuple[str, ...], force: bool) -> None:
    """Make a key and a certificate request for HOSTs, to be signed by this CA or by another."""
    with own_ca_of(house) as own_ca:
        path = own_ca.request(hosts, replace=force)
    house.say(f"Request: {path}")
    house.say(f"Key: {path.with_suffix('.key')}")
    house.say(
        f"Sign it with `gatepost ca sign {path}`, or put what another CA makes of it at {path.with_suffix('.crt')}"
    )


@ca.command("sign")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--host", "hosts", multiple=True, help="A name to certify instead of those asked for; may be repeated.")
@days_option
@click.option("--force", is_flag=True, help="Replace the certificate that is there.")
@click.pass_obj
def sign_request(house: House, file: Path, hosts: tuple[str, ...], days: int, force: bool) -> None:
    """Sign the request in FILE. The certificate goes beside it, ending in .crt."""
    with own_ca_of(house) as own_ca:
        say_facts(house, own_ca.sign(file, hosts=hosts, days=days, replace=force))


@ca.command("issue")
@hosts_argument
@days_option
@click.option("--force", is_flag=True, help="Replace the certificate and the key that are there.")
@click.pass_obj
def issue_certificate(house: House, hosts: tuple[str, ...], days: int, force: bool) -> None:
    """Make a key and a certificate for HOSTs in one step. The first HOST names the files."""
    with own_ca_of(house) as own_ca:
        say_facts(house, own_ca.issue(hosts, days=days, replace=force))


@ca.command("renew")
@click.argument("hosts", nargs=-1, metavar="[HOST...]")
@click.option("--all", "every", is_flag=True, help="All certificates that this CA has issued.")
@click.option("--days-left", type=click.IntRange(0), default=None, help="Only those with fewer days left than this.")
@days_option
@click.pass_obj
def renew_certificates(house: House, hosts: tuple[str, ...], every: bool, days_left: int | None, days: int) -> None:
    """Make new certificates for the same names and keys."""
    if every == bool(hosts):
        raise click.UsageError("name the hosts to renew, or --all")
    failures = []
    with own_ca_of(house) as own_ca:
        own_ca.show()  # without a CA there is no need to begin
        for host in hosts or own_ca.hosts():
            try:
                with own_ca_of(house):
                    house.say(f"{host}: {renewed(own_ca, host, days_left, days, only_ours=every)}")
            except click.ClickException as failure:  # one that cannot be renewed must not keep the others from it
                failures.append(failure.message)
    if failures:
        raise click.ClickException("\n".join(failures))


@ca.command("show")
@click.argument("host", default="")
@click.pass_obj
def show_certificate(house: House, host: str) -> None:
    """What the certificate of HOST says, or that of the CA."""
    with own_ca_of(house) as own_ca:
        say_facts(house, own_ca.show(host))


@ca.command("list")
@click.pass_obj
def list_certificates(house: House) -> None:
    """All certificates of hosts, a line each."""
    with own_ca_of(house) as own_ca:
        for host in own_ca.hosts():
            try:
                with own_ca_of(house):
                    house.say(f"{host}: {in_one_line(own_ca, host)}")
            except click.ClickException as failure:
                house.say(f"{host}: {failure.message}")


def renewed(own_ca: OwnCa, host: str, days_left: int | None, days: int, *, only_ours: bool) -> str:
    """Renew one certificate where it is due; says what was done."""
    if only_ours and not own_ca.has_issued(host):
        return "left alone, another CA issued it"
    left = own_ca.show(host).days_left
    if days_left is not None and left >= days_left:
        return f"left alone, {left} days left"
    facts = own_ca.renew(host, days=days)
    return f"renewed, valid until {facts.not_after:%Y-%m-%d} ({facts.days_left} days left)"


def in_one_line(own_ca: OwnCa, host: str) -> str:
    """Names, time left, who issued it."""
    facts = own_ca.show(host)
    issuer = "this CA" if own_ca.has_issued(host) else facts.issuer
    return f"{', '.join(facts.names)}; {validity(facts)}; issued by {issuer}"


@contextmanager
def own_ca_of(house: House) -> Iterator[OwnCa]:
    """The CA of a house. What goes wrong within ends the command with its text."""
    from gatepost.net.certificate_files import CaError  # cryptography takes its time; other commands need not wait
    from gatepost.net.own_ca import OwnCa

    try:
        yield OwnCa(house.home / "tls" / "ca")
    except CaError as error:
        raise click.ClickException(str(error)) from error


def say_facts(house: House, facts: CertificateFacts) -> None:
    """What a certificate says, a line each."""
    house.say(f"Certificate: {facts.path}")
    house.say(f"Subject: {facts.subject}")
    if facts.names:
        house.say(f"Names: {', '.join(facts.names)}")
    house.say(f"Issuer: {facts.issuer}")
    house.say(f"SHA-256: {facts.fingerprint}")
    house.say(f"Valid from: {facts.not_before:%Y-%m-%d %H:%M} UTC")
    house.say(f"Valid until: {facts.not_after:%Y-%m-%d %H:%M} UTC, {validity(facts)}")


def validity(facts: CertificateFacts) -> str:
    """How much time it has left."""
    return f"{facts.days_left} days left" if facts.days_left >= 0 else f"EXPIRED on {facts.not_after:%Y-%m-%d}"
