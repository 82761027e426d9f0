"""How SMTP, IMAP and POP3 carry SASL messages: one base64 line each (RFC 4954 §4, RFC 3501 §6.2.2, RFC 5034 §4).

Strict: the alphabet and the padding of RFC 4648 §4, in the one spelling that encoding the result gives again; no white
space. A response has MAX_RESPONSE octets of base64 at most, which is also the most a driver needs to buffer.
"""

from __future__ import annotations

import binascii

MAX_RESPONSE = 12288  # RFC 4954 §4: "a maximum length of 12288 octets", without CRLF
CANCEL = b"*"  # instead of a response: the client gives up
EMPTY_INITIAL = b"="  # an initial response that is there, but empty


class BadBase64(ValueError):
    """Not one base64 line. The text holds nothing of it."""


class ResponseTooLong(BadBase64):
    """More than MAX_RESPONSE octets (RFC 4954 §4: 500 5.5.6)."""


def decode_response(line: bytes) -> bytes:
    """The response in a line, its CRLF taken off. An empty line is an empty response. Raises BadBase64."""
    if len(line) > MAX_RESPONSE:
        raise ResponseTooLong(f"a response is longer than {MAX_RESPONSE} octets")
    try:
        decoded = binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise BadBase64("a response is not base64") from None
    if encode_challenge(decoded) != line:  # RFC 4648 §3.5: bits that say nothing must be zero
        raise BadBase64("a response is not canonical base64")
    return decoded


def decode_initial_response(argument: bytes) -> bytes:
    """The initial response beside the mechanism's name, where "=" stands for an empty one. Raises BadBase64."""
    if argument == EMPTY_INITIAL:
        return b""
    if not argument:
        raise BadBase64('an empty initial response is written "="')
    return decode_response(argument)


def encode_challenge(data: bytes) -> bytes:
    """A challenge, or a client's response, as one line without its CRLF."""
    return binascii.b2a_base64(data, newline=False)


def encode_initial_response(data: bytes) -> bytes:
    """An initial response, to stand beside the mechanism's name."""
    return encode_challenge(data) or EMPTY_INITIAL
