"""Parameters of MAIL and RCPT: taken as their RFCs say, refused with the RFCs' codes, never passed on unfit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.protocols.smtp.parameters import (
    BadParameter,
    MailParameters,
    RcptParameters,
    encode_xtext,
    parse_mail_parameters,
    parse_rcpt_parameters,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", MailParameters()),
        ("SIZE=12345", MailParameters(size=12345)),
        ("size=0", MailParameters()),
        ("BODY=8BITMIME", MailParameters(eight_bit=True)),
        ("body=7bit", MailParameters()),
        ("SMTPUTF8", MailParameters(smtputf8=True)),
        ("RET=FULL", MailParameters(ret="FULL")),
        ("ret=hdrs", MailParameters(ret="HDRS")),
        ("ENVID=QQ314159", MailParameters(envid="QQ314159")),
        ("ENVID=a+2Bb+3Dc+20d", MailParameters(envid="a+b=c d")),
        ("AUTH=<>", MailParameters()),
        ("AUTH=e+3Dmc2@example.test", MailParameters()),
        ("  SIZE=1   BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x ", MailParameters(1, True, True, "HDRS", "x")),
    ],
)
def test_mail(text: str, found: MailParameters) -> None:
    assert parse_mail_parameters(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", RcptParameters()),
        ("NOTIFY=NEVER", RcptParameters(frozenset(("NEVER",)))),
        ("notify=success,Failure", RcptParameters(frozenset(("SUCCESS", "FAILURE")))),
        ("NOTIFY=SUCCESS,FAILURE,DELAY", RcptParameters(frozenset(("SUCCESS", "FAILURE", "DELAY")))),
        ("ORCPT=rfc822;Bob@Example.test", RcptParameters(orcpt="rfc822;Bob@Example.test")),
        ("ORCPT=RFC822;b+2Bob@d.test", RcptParameters(orcpt="rfc822;b+ob@d.test")),
        ("ORCPT=utf-8;jürgen@d.test", RcptParameters(orcpt="utf-8;jürgen@d.test")),
        ("ORCPT=utf-8;j\\x{FC}rgen@d.test", RcptParameters(orcpt="utf-8;j\\x{FC}rgen@d.test")),
    ],
)
def test_rcpt(text: str, found: RcptParameters) -> None:
    assert parse_rcpt_parameters(text) == found


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("HOLDFOR=1", "555 5.5.4 Unknown parameter HOLDFOR"),  # RFC 5321 §4.1.1.11
        ("NOTIFY=NEVER", "555 5.5.4 Unknown parameter NOTIFY"),
        ("=5", "555 5.5.4 Unknown parameter "),
        ("X" * 1000, "555 5.5.4 Unknown parameter XXXXXXXXXXXXXXXXXXXX"),
        ("SIZE", "501 5.5.4 Bad value for parameter SIZE"),
        ("SIZE=", "501 5.5.4 Bad value for parameter SIZE"),
        ("SIZE=-1", "501 5.5.4 Bad value for parameter SIZE"),
        ("SIZE=1e3", "501 5.5.4 Bad value for parameter SIZE"),
        ("SIZE=\u0663", "501 5.5.4 Bad value for parameter SIZE"),
        ("SIZE=" + "9" * 21, "501 5.5.4 Bad value for parameter SIZE"),
        ("SIZE=1 size=1", "501 5.5.4 Parameter SIZE is given twice"),
        ("BODY", "501 5.5.4 Bad value for parameter BODY"),
        ("BODY=BINARYMIME", "501 5.5.4 Bad value for parameter BODY"),  # RFC 3030 §3: not offered
        ("SMTPUTF8=yes", "501 5.5.4 Bad value for parameter SMTPUTF8"),
        ("RET=ALL", "501 5.5.4 Bad value for parameter RET"),
        ("ENVID", "501 5.5.4 Bad value for parameter ENVID"),
        ("ENVID=+2b", "501 5.5.4 Bad value for parameter ENVID"),  # xtext has upper-case digits
        ("ENVID=a=b", "501 5.5.4 Bad value for parameter ENVID"),
        ("ENVID=a+", "501 5.5.4 Bad value for parameter ENVID"),
        ("ENVID=+0D+0AX-Injected:+20yes", "501 5.5.4 Bad value for parameter ENVID"),
        ("ENVID=+1B[31m", "501 5.5.4 Bad value for parameter ENVID"),
        ("ENVID=+C3+BC", "501 5.5.4 Bad value for parameter ENVID"),  # RFC 3461 §4.4: US-ASCII
        ("ENVID=ü", "501 5.5.4 Bad value for parameter ENVID"),
        ("ENVID=" + "x" * 101, "501 5.5.4 Bad value for parameter ENVID"),
        ("AUTH=a b", "555 5.5.4 Unknown parameter B"),
        ("AUTH=", "501 5.5.4 Bad value for parameter AUTH"),
    ],
)
def test_mail_refused(text: str, reply: str) -> None:
    with pytest.raises(BadParameter) as refused:
        parse_mail_parameters(text)
    assert str(refused.value.reply) == reply


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("SIZE=1", "555 5.5.4 Unknown parameter SIZE"),
        ("NOTIFY=", "501 5.5.4 Bad value for parameter NOTIFY"),
        ("NOTIFY", "501 5.5.4 Bad value for parameter NOTIFY"),
        ("NOTIFY=NEVER,SUCCESS", "501 5.5.4 Bad value for parameter NOTIFY"),
        ("NOTIFY=SUCCESS,SUCCESS", "501 5.5.4 Bad value for parameter NOTIFY"),
        ("NOTIFY=SUCCESS,", "501 5.5.4 Bad value for parameter NOTIFY"),
        ("NOTIFY=ALWAYS", "501 5.5.4 Bad value for parameter NOTIFY"),
        ("ORCPT=bob@d.test", "501 5.5.4 Bad value for parameter ORCPT"),
        ("ORCPT=rfc822;", "501 5.5.4 Bad value for parameter ORCPT"),
        ("ORCPT=;bob@d.test", "501 5.5.4 Bad value for parameter ORCPT"),
        ("ORCPT=rfc822;j\u00fcrgen@d.test", "501 5.5.4 Bad value for parameter ORCPT"),
        ("ORCPT=utf-8;j\u00fc\x1b[31m@d.test", "501 5.5.4 Bad value for parameter ORCPT"),
        ("ORCPT=utf-8;j\u00fc\x9b@d.test", "501 5.5.4 Bad value for parameter ORCPT"),
        ("ORCPT=utf-8;" + "\u00fc" * 501, "501 5.5.4 Bad value for parameter ORCPT"),
        ("ORCPT=rfc822;" + "x" * 501, "501 5.5.4 Bad value for parameter ORCPT"),
        ("ORCPT=rfc822;a+0Ab", "501 5.5.4 Bad value for parameter ORCPT"),
        ("ORCPT=rfc822;a ORCPT=rfc822;b", "501 5.5.4 Parameter ORCPT is given twice"),
    ],
)
def test_rcpt_refused(text: str, reply: str) -> None:
    with pytest.raises(BadParameter) as refused:
        parse_rcpt_parameters(text)
    assert str(refused.value.reply) == reply


WORDS = st.lists(
    st.sampled_from(
        ["SIZE=", "BODY=8BITMIME", "SMTPUTF8", "RET=FULL", "ENVID=", "AUTH=", "NOTIFY=", "ORCPT=utf-8;", " "]
    )
    | st.text("aü+0DA\r\n\x1b\x85 =;,", max_size=10)
    | st.text(max_size=10),
    max_size=8,
).map("".join)


@given(WORDS)
def test_any_text_is_taken_or_refused_and_what_is_taken_is_fit_for_a_header(text: str) -> None:
    try:
        assert parse_mail_parameters(text).envid.isprintable()
    except BadParameter as refused:
        assert refused.reply.code in (501, 555)
    try:
        assert parse_rcpt_parameters(text).orcpt.isprintable()
    except BadParameter as refused:
        assert refused.reply.code in (501, 555)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=33))
def test_xtext_goes_there_and_back(text: str) -> None:
    encoded = encode_xtext(text)
    assert " " not in encoded
    assert "=" not in encoded
    assert parse_mail_parameters(f"ENVID={encoded}").envid == text


def test_xtext_of_what_is_not_ascii() -> None:
    assert encode_xtext("ü\n+=") == "+C3+BC+0A+2B+3D"
