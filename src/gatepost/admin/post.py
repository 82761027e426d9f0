"""Post a message through a server, as a mail client would: with smtplib, a stranger to our own client."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Literal

Protection = Literal["none", "starttls", "tls"]


@dataclass(frozen=True, slots=True)
class Submission:
    """What to send, where and as whom. `ca` is the certificate to trust besides the system's."""

    server: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    protection: Protection = "none"
    user: str = ""
    password: str = field(default="", repr=False)
    ca: Path | None = None


def plain_message(sender: str, recipients: tuple[str, ...], subject: str, text: str) -> bytes:
    """A short text message."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = subject
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2] or "localhost")
    message.set_content(text)
    return message.as_bytes()


def _with_crlf(content: bytes) -> bytes:
    """Lines end in CRLF on the wire, whatever they end in on disk (RFC 5321 §2.3.8)."""
    return b"\r\n".join(content.splitlines()) + b"\r\n"


def post(submission: Submission) -> list[str]:
    """Send it. Gives one line for each recipient that was refused. Raises OSError, smtplib.SMTPException."""
    context = ssl.create_default_context(cafile=str(submission.ca) if submission.ca is not None else None)
    with _connect(submission, context) as client:
        if submission.protection == "starttls":
            client.starttls(context=context)
        if submission.user:
            client.login(submission.user, submission.password)
        refused = client.sendmail(submission.sender, submission.recipients, _with_crlf(submission.content))
    return [f"{address}: {code} {text.decode(errors='replace')}" for address, (code, text) in refused.items()]


def _connect(submission: Submission, context: ssl.SSLContext) -> smtplib.SMTP:
    if submission.protection != "tls":
        return smtplib.SMTP(submission.server, submission.port, timeout=60)
    return smtplib.SMTP_SSL(submission.server, submission.port, context=context, timeout=60)
