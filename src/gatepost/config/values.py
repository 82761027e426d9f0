"""Durations, sizes and networks as the file writes them, and back.

Durations: "5d", "4h30m", "90s", "1.5h"; units w d h m s, each at most once, the larger first; a number alone is seconds.
They are kept to the microsecond; the longest is ten years.

Sizes: "50 MiB", "64k", "998 B"; k, M, G, T count in 1024 however they are written ("64k", "64 KB" and "64 KiB" are one
size); a number alone is bytes.

Networks: "192.0.2.0/24", "2001:db8::/32", one address alone; also "[2001:db8::]/32", as Postfix writes it.

Parsers are total: any text gives a value or WrongValue, whose text can be shown. What `format_` gives, `parse_` takes back
unchanged.
"""

from __future__ import annotations

import re
from decimal import Decimal
from ipaddress import AddressValueError, IPv4Network, IPv6Network, NetmaskValueError

from gatepost.config.settings import Bytes, Network, Seconds

LONGEST_DURATION = 10 * 365 * 86400  # seconds; beyond it a typing error is likelier than a wish
LARGEST_SIZE = (1 << 63) - 1  # bytes; what SQLite keeps as an integer
MAX_LENGTH = 100  # characters of any text taken here

_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,6})?"
_PLAIN = re.compile(_NUMBER)
_DURATION = re.compile("".join(rf"(?:({_NUMBER}) ?{unit} ?)?" for unit in "wdhms"))
_UNIT_SECONDS = (604800, 86400, 3600, 60, 1)
_SIZE = re.compile(rf"({_NUMBER}) ?([kKMGT]?)(?:i?B)?")
_SIZE_UNITS = ("", "k", "M", "G", "T")
_NETWORK = re.compile(r"(?:\[([0-9A-Fa-f.:]+)\]|([0-9A-Fa-f.:]+))(?:/([0-9]{1,3}))?")
_LONGEST_PREFIX = {IPv4Network: 32, IPv6Network: 128}
_IPV4_AS_IPV6 = IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2


class WrongValue(ValueError):
    """Not such a value. The text says what is wrong and what to write."""


def quoted(text: str) -> str:
    """Text from a file for one line of an error: in quotes, without control characters, not too long."""
    shown = text if len(text) <= MAX_LENGTH else text[: MAX_LENGTH - 3] + "..."
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown) + '"'


def parse_duration(text: str) -> Seconds:
    """Seconds out of "5d", "4h30m", "90s" or "300". Raises WrongValue."""
    text = text.strip(" ")
    if len(text) <= MAX_LENGTH and _PLAIN.fullmatch(text):
        return check_duration(float(text))
    found = _DURATION.fullmatch(text) if text and len(text) <= MAX_LENGTH else None
    if not found:
        raise WrongValue(f'{quoted(text)} is no time; write it like "5d", "4h30m", "90s", or a number of seconds')
    parts = zip(found.groups(), _UNIT_SECONDS, strict=True)
    # Decimal, so that "1.1h" is 3960 seconds and not a hair less.
    return check_duration(float(sum(Decimal(number) * unit for number, unit in parts if number)))


def check_duration(seconds: float) -> Seconds:
    """The same number, to the microsecond, where it can be a duration at all. Raises WrongValue."""
    if not 0 <= seconds <= LONGEST_DURATION:  # also catches "nan"
        raise WrongValue("a time is between 0 and 10 years; write it within these bounds")
    return Seconds(round(float(seconds), 6))


def format_duration(seconds: float) -> str:
    """ "1h6m40s" for 4000; fractions as "0.25s"."""
    whole = int(seconds)
    if whole != seconds:
        return f"{Decimal(repr(seconds)):f}s"
    text = ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def parse_size(text: str) -> Bytes:
    """Bytes out of "50 MiB", "64k" or "1048576". Raises WrongValue."""
    text = text.strip(" ")
    found = _SIZE.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if not found:
        raise WrongValue(f'{quoted(text)} is no size; write it like "50 MiB", "64k", or a number of bytes')
    size = Decimal(found[1]) * 1024 ** _SIZE_UNITS.index(found[2].replace("K", "k"))
    if size != int(size):
        raise WrongValue(f"{quoted(text)} is not a whole number of bytes; round it")
    return check_size(int(size))


def check_size(size: int) -> Bytes:
    """The same number where it can be a size at all. Raises WrongValue."""
    if not 0 <= size <= LARGEST_SIZE:
        raise WrongValue("a size is between 0 and 8 EiB; write it within these bounds")
    return Bytes(size)


def format_size(size: int) -> str:
    """ "50 MiB", "998 B": the largest unit that leaves no fraction."""
    power = 0
    while size and size % 1024 == 0 and power < len(_SIZE_UNITS) - 1:
        size //= 1024
        power += 1
    return f"{size} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def parse_network(text: str) -> Network:
    """A network out of "192.0.2.0/24", "2001:db8::/32" or a single address. Raises WrongValue.

    A network given by an address inside it is refused, as is IPv4 written as IPv6: both mean something else than they
    seem to say, and the value decides who may relay.
    """
    text = text.strip(" ")
    found = _NETWORK.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if not found:
        raise WrongValue(f'{quoted(text)} is no network; write it like "192.0.2.0/24" or "2001:db8::/32"')
    address, prefix = found[1] or found[2], found[3]
    family = IPv6Network if ":" in address else IPv4Network
    try:
        network = family(f"{address}/{prefix}" if prefix else address, strict=False)
    except NetmaskValueError:
        raise WrongValue(
            f"{quoted(text)} has no such prefix length; write at most /{_LONGEST_PREFIX[family]}"
        ) from None
    except AddressValueError:
        raise WrongValue(f"{quoted(text)} holds no IP address; write it like 192.0.2.0/24 or 2001:db8::/32") from None
    if network.network_address != family(address).network_address:
        raise WrongValue(f"{quoted(text)} names an address inside a network; write {network} or {family(address)}")
    if isinstance(network, IPv6Network) and network.overlaps(_IPV4_AS_IPV6):
        raise WrongValue(f"{quoted(text)} holds IPv4 addresses written as IPv6; write them as IPv4")
    return network


def format_network(network: Network) -> str:
    """ "192.0.2.0/24", with the prefix length always."""
    return str(network)
