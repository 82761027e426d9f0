"""gatepost send: a message through a server, as a mail client would send it."""

from __future__ import annotations

import smtplib
import ssl
import sys
from pathlib import Path

import click

from gatepost.admin.post import Protection, Submission, plain_message, post
from gatepost.cli.house import House

PORTS: dict[str, tuple[int, Protection]] = {
    "mx": (25, "none"),
    "submission": (587, "starttls"),
    "submissions": (465, "tls"),
}


@click.command("send")
@click.argument("recipients", nargs=-1, required=True, metavar="RECIPIENT...")
@click.option("--from", "sender", required=True, help="The sender.")
@click.option(
    "--via", type=click.Choice(list(PORTS)), default="submission", show_default=True, help="As which kind of client."
)
@click.option("--server", default="localhost", show_default=True, help="HOST or HOST:PORT.")
@click.option(
    "--user", default="", help="Log in as this user; the password comes from --password-file or the terminal."
)
@click.option(
    "--password-file", type=click.Path(path_type=Path, dir_okay=False), help="Its first line is the password."
)
@click.option("--subject", default="A message from Gatepost", show_default=True, help="The subject.")
@click.option("--text", default="It works.", show_default=True, help="The text.")
@click.option(
    "--file", "file", type=click.File("rb"), help='A whole message, header and text, instead; "-" for standard input.'
)
@click.pass_obj
def send(house: House, /, recipients: tuple[str, ...], sender: str, via: str, **options: object) -> None:
    """Send a message to RECIPIENTs through a server.

    The CA of the home folder is trusted besides the system's, so that it works with a server that has just been set up.
    """
    port, protection = PORTS[via]
    server, _, given_port = str(options["server"]).rpartition(":")
    if not server:
        server, given_port = given_port, ""
    if given_port and not given_port.isdigit():
        raise click.ClickException(f"{given_port!r} is no port")
    own_ca = house.home / "tls" / "ca" / "ca.crt"
    content = options["file"].read() if options["file"] is not None else None  # type: ignore[attr-defined]
    submission = Submission(
        server=server,
        port=int(given_port or port),
        sender=sender,
        recipients=recipients,
        content=content or plain_message(sender, recipients, str(options["subject"]), str(options["text"])),
        protection=protection,
        user=str(options["user"]),
        password=_password(str(options["user"]), options["password_file"]),
        ca=own_ca if own_ca.exists() else None,
    )
    try:
        refused = post(submission)
    except smtplib.SMTPRecipientsRefused as error:
        raise click.ClickException(
            "; ".join(f"{who}: {code} {text.decode()}" for who, (code, text) in error.recipients.items())
        ) from None
    except smtplib.SMTPResponseException as error:
        text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        raise click.ClickException(f"{server} says: {error.smtp_code} {text}") from None
    except (ssl.SSLError, OSError, smtplib.SMTPException) as error:
        raise click.ClickException(f"{server}:{submission.port}: {error}") from None
    for line in refused:
        click.echo(f"refused: {line}", err=True)
    house.say(f"accepted for {len(recipients) - len(refused)} of {len(recipients)}")


def _password(user: str, file: object) -> str:
    if not user:
        return ""
    if isinstance(file, Path):
        try:
            return file.read_text().partition("\n")[0]
        except OSError as error:
            raise click.ClickException(f"{file}: {error.strerror}") from None
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True))
    raise click.ClickException("--user needs a password: give --password-file, or a terminal to type it on")
