"""base64 lines: strict, bounded, and equal to what the standard library writes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.protocols.sasl.framing import (
    CANCEL,
    MAX_RESPONSE,
    BadBase64,
    ResponseTooLong,
    decode_initial_response,
    decode_response,
    encode_challenge,
    encode_initial_response,
)


@given(st.binary(max_size=400))
def test_what_is_encoded_is_decoded(data: bytes) -> None:
    assert encode_challenge(data) == base64.b64encode(data)
    assert decode_response(encode_challenge(data)) == data
    assert decode_initial_response(encode_initial_response(data)) == data


def test_the_prompts_of_login_as_everyone_writes_them() -> None:
    assert encode_challenge(b"Username:") == b"VXNlcm5hbWU6"
    assert encode_challenge(b"Password:") == b"UGFzc3dvcmQ6"


def test_empty_is_an_equals_sign_as_an_initial_response_only() -> None:
    assert decode_response(b"") == b""
    assert decode_initial_response(b"=") == b""
    assert encode_initial_response(b"") == b"="
    with pytest.raises(BadBase64):
        decode_response(b"=")
    with pytest.raises(BadBase64):
        decode_initial_response(b"")


@pytest.mark.parametrize(
    "line",
    [
        CANCEL,
        b"!!!!",
        b"AGth",  # decodes, see below: here to show that the others fail for their own fault
        b"AGt",  # no padding
        b"AGth=",
        b"AA=A",
        b"AA==AA==",
        b"====",
        b"=AGt",
        b" AGth",
        b"AGth ",
        b"AG th",
        b"AGth\r",
        b"AG\nth",
        b"AGt\x00",
        b"AGt-",  # the alphabet of URLs
        b"AGt_",
        b"AB==",  # bits that say nothing, and are set
        b"AAB=",
        "ÄGth".encode(),
    ],
)
def test_nothing_but_base64_is_taken(line: bytes) -> None:
    if line == b"AGth":
        assert decode_response(line) == b"\x00ka"
        return
    for decode in (decode_response, decode_initial_response):
        with pytest.raises(BadBase64) as caught:
            decode(line)
        assert line.decode("latin-1") not in str(caught.value)


def test_a_response_may_have_12288_octets_and_no_more() -> None:
    assert decode_response(b"A" * MAX_RESPONSE) == bytes(MAX_RESPONSE // 4 * 3)
    with pytest.raises(ResponseTooLong):
        decode_response(b"A" * (MAX_RESPONSE + 4))
    with pytest.raises(ResponseTooLong):
        decode_initial_response(b"!" * 10_000_000)


@given(st.binary(max_size=64))
def test_any_line_gives_bytes_or_one_error(line: bytes) -> None:
    try:
        decoded = decode_response(line)
    except BadBase64:
        return
    assert base64.b64encode(decoded) == line
