"""Places: which folder is whose, and the only way to open one.

The setting `mailboxes.path` is a template such as `mail/{domain}/{local}`, below the home folder. Each address has its
own folder, and no two share one or stand inside one another: every template has both `{domain}` and `{local}`, in
different components or parted by `@`, and what is put in cannot hold a `/` or an `@`.

What is put in is encoded (`encode_name`): lower-case ASCII letters, digits and `. _ - + =` stay as they are, so ordinary
addresses look ordinary on the disk; every other byte of the UTF-8 form becomes `%` and two upper-case hexadecimal digits;
so does a dot at the start (no hidden folder, no `..`); the empty name is a lone `%`. `decode_name` reverses it. The local
part is taken in lower case, as `Address.key` is: two spellings of one address are one mailbox. Names that come out longer
than 255 bytes are refused with BadPlace; with the default template no address that `parse_address` accepts does.

Folders are made on demand with mode 0700, and the folder above each new one is synced. The part of the template before
the first placeholder is the operator's own and may be a symbolic link; below it no link is followed (O_NOFOLLOW, every
step relative to the open folder above), so nobody who can write in one mailbox can send mail elsewhere.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gatepost.mail.address import Address

MAX_NAME = 255  # bytes, NAME_MAX of Linux file systems
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_MODE = 0o700

_SAFE = re.compile(r"[a-z0-9_+=-][a-z0-9._+=-]*")
_SAFE_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789._+=-")
_ENCODED = re.compile(r"%|(?:[a-z0-9_+=-]|%[0-9A-F]{2})(?:[a-z0-9._+=-]|%[0-9A-F]{2})*")
_ESCAPE = re.compile(rb"%([0-9A-F]{2})")
_EMPTY = "%"

_PLACEHOLDER = re.compile(r"\{(domain|local)\}")
_COMPONENT = re.compile(r"(?:[A-Za-z0-9._@+=-]|\{domain\}|\{local\})+")


class BadTemplate(ValueError):
    """The setting `mailboxes.path` is no usable template; the text says why."""


class BadPlace(ValueError):
    """The address has no folder here; the text says why."""


def encode_name(text: str) -> str:
    """`text` as one file name that is not hidden and holds no `/`, `@`, `%` but ours. Raises BadPlace."""
    if _SAFE.fullmatch(text):
        return text
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise BadPlace(f"{text!r} is not valid Unicode") from None
    shown = (chr(byte) if byte in _SAFE_BYTES else f"%{byte:02X}" for byte in raw)
    name = "".join(shown) or _EMPTY
    return f"%2E{name[1:]}" if name.startswith(".") else name


def decode_name(name: str) -> str:
    """The text `encode_name` made `name` of. Raises ValueError for a name it never makes."""
    if name == _EMPTY:
        return ""
    if not _ENCODED.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of a mailbox folder")
    text = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), name.encode()).decode()
    if encode_name(text) != name:
        raise ValueError(f"{name!r} is not a name of a mailbox folder")
    return text


@dataclass(frozen=True, slots=True)
class _Template:
    """The template taken apart: the fixed path in front, and the components that depend on the address."""

    fixed: tuple[str, ...]
    varying: tuple[str, ...]


def _parse_template(text: str) -> _Template:
    """Raises BadTemplate."""
    components = text.split("/")
    for component in components:
        if component in ("", ".", "..") or not _COMPONENT.fullmatch(component):
            raise BadTemplate(
                f"mailboxes.path {text!r}: {component!r} is no folder name; it is a path below the home folder made of "
                "letters, digits, . _ @ + = - and the placeholders {domain} and {local}"
            )
        parts = _PLACEHOLDER.split(component)  # literal, name, literal, name, literal …
        if len(parts) > 3 and any("@" not in literal for literal in parts[2:-1:2]):
            raise BadTemplate(
                f"mailboxes.path {text!r}: two placeholders in {component!r} need an @ between them, or two addresses "
                "could share a folder"
            )
    for placeholder in ("{domain}", "{local}"):
        if placeholder not in text:
            raise BadTemplate(f"mailboxes.path {text!r} lacks {placeholder}: accounts would share a folder")
    first = next(at for at, component in enumerate(components) if "{" in component)
    return _Template(tuple(components[:first]), tuple(components[first:]))


class Places:
    """Knows every account's folder. Holds no file open; safe to use from any thread."""

    def __init__(self, home: Path, template: str) -> None:
        """`template` is the setting `mailboxes.path`. Raises BadTemplate."""
        parsed = _parse_template(template)
        self._home = home
        self._fixed = parsed.fixed
        self._varying = parsed.varying
        self._root = home.joinpath(*parsed.fixed)

    def names(self, account: Address) -> tuple[str, ...]:
        """The folders from the root of all mailboxes down to the account's own. Raises BadPlace."""
        values = {"domain": encode_name(account.domain), "local": encode_name(account.local.lower())}
        names = tuple(_PLACEHOLDER.sub(lambda found: values[found[1]], component) for component in self._varying)
        for name in names:
            if len(name) > MAX_NAME:
                raise BadPlace(f"the folder name of this address would be longer than {MAX_NAME} bytes: {name[:40]}…")
        return names

    def path(self, account: Address) -> Path:
        """The account's Maildir, for messages to the operator; opened by `open` only. Raises BadPlace."""
        return self._root.joinpath(*self.names(account))

    def open(self, account: Address, *, create: bool) -> int:
        """A descriptor of the account's Maildir, to be closed by the caller; missing folders are made where `create`.

        Raises BadPlace, or OSError: FileNotFoundError where it is missing and not to be made, NotADirectoryError (or
        ELOOP) where a symbolic link stands in the way.
        """
        names = self.names(account)
        folder = self._open_root(create)
        for name in names:
            above = folder
            try:
                folder = open_folder(above, name, create=create)
            finally:
                os.close(above)
        return folder

    def _open_root(self, create: bool) -> int:
        try:
            return os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                raise
        folder = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in self._fixed:
            above = folder
            try:
                folder = open_folder(above, name, create=True, follow=True)
            finally:
                os.close(above)
        return folder


def open_folder(above: int, name: str, *, create: bool, follow: bool = False) -> int:
    """A descriptor of the folder `name` in the open folder `above`, made and synced where missing. Raises OSError."""
    flags = FOLDER & ~os.O_NOFOLLOW if follow else FOLDER
    try:
        return os.open(name, flags, dir_fd=above)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(name, FOLDER_MODE, dir_fd=above)
    except FileExistsError:  # another worker was first, or a link that leads nowhere: opening it tells
        pass
    else:
        os.fsync(above)
    return os.open(name, flags, dir_fd=above)
