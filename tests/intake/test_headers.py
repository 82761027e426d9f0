"""What a submission's header gets, what it loses, and that nothing else of it changes."""

from __future__ import annotations

import email
import email.policy
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.intake.headers import completed_submission, message_id

AT = 1_800_000_000.0


def completed(header: bytes, sender: str = "ann@example.test") -> bytes:
    return completed_submission(header, sender=sender, queue_id="0123456789BC", hostname="mail.test", at=AT)


def test_what_is_missing_is_added() -> None:
    header = completed(b"Subject: hello\r\n")
    parsed = email.message_from_bytes(header + b"\r\n", policy=email.policy.SMTP)
    assert parsed.keys() == ["From", "Date", "Message-ID", "Subject"]
    assert parsed["From"] == "ann@example.test"
    assert email.utils.parsedate_to_datetime(parsed["Date"]).timestamp() == AT
    assert parsed["Message-ID"] == "<0123456789BC@mail.test>"
    assert parsed.defects == []


@pytest.mark.parametrize(
    "header",
    [
        b"From: a@b.test\r\nDate: yesterday\r\nMessage-ID: <x@y.test>\r\n",
        b"date:x\r\nMESSAGE-ID :\r\n\t<x@y.test>\r\nfrom:\r\n a@b.test\r\n",
        b"no field at all\r\nFrom: a\r\nDate: b\r\nMessage-Id: c\r\n",
    ],
)
def test_what_is_there_stays(header: bytes) -> None:
    assert completed(header) == header


def test_only_what_is_missing() -> None:
    assert completed(b"From: a\r\nDate: b\r\n") == b"Message-ID: <0123456789BC@mail.test>\r\nFrom: a\r\nDate: b\r\n"
    assert b"From" not in completed(b"", sender="")  # the null sender has no name to give
    # A field of another name, and the text of a field, are not the field.
    assert completed(b"Resent-From: a\r\nX: Date: b\r\n").count(b"\r\n") == 5


def test_an_international_sender() -> None:
    assert "From: <jürgen@example.test>\r\n".encode() in completed(b"", sender="jürgen@example.test")


@pytest.mark.parametrize(
    "bcc",
    [
        b"Bcc: a@b.test\r\n",
        b"BCC:a@b.test,\r\n c@d.test,\r\n\te@f.test\r\n",
        b"bcc :\r\n\ta@b.test\r\n",
        b"Resent-Bcc: a@b.test\r\n",
        b"Bcc: a@b.test\r\nBcc: c@d.test\r\n",
    ],
)
@pytest.mark.parametrize(
    "before", [b"", b"To: x@y.test\r\n", b"a line that is no field\r\n", b" folded onto nothing\r\n"]
)
def test_blind_copies_stay_blind_wherever_they_stand(bcc: bytes, before: bytes) -> None:
    after = b"Subject: Bcc: me\r\nX-Bcc: stays\r\n"
    header = completed(before + bcc + after)
    assert header.endswith(before + after)
    assert b"a@b.test" not in header


FIELDS = st.sampled_from(
    [
        b"From: a\r\n",
        b"Date: b\r\n",
        b"Message-ID: <c>\r\n",
        b"Bcc: d\r\n",
        b"BCC :\r\n d\r\n",
        b"To: e,\r\n\tf\r\n",
        b"DKIM-Signature: v=1;\r\n b=x\r\n",
        b"no field\r\n",
        b"X-\xff: \xfe\r\n",
    ]
)


@given(st.lists(FIELDS, max_size=10))
def test_all_other_bytes_stay_in_their_order(fields: list[bytes]) -> None:
    header = completed(b"".join(fields))
    kept = b"".join(field for field in fields if not field.lower().startswith(b"bcc"))
    assert header.endswith(kept)
    added = header.removesuffix(kept) if kept else header
    names = [line.partition(b":")[0] for line in added.splitlines()]
    joined = b"".join(fields)
    assert names == [
        name for name in (b"From", b"Date", b"Message-ID") if b"\r\n" + name + b":" not in b"\r\n" + joined
    ]
    assert completed(header) == header


@given(st.binary(max_size=200))
def test_any_bytes_can_be_completed(header: bytes) -> None:
    assert b"Date: " in completed(header) or b"date" in header.lower()
    message_id(header)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"", ""),
        (b"Subject: x\r\nMessage-ID: <a@b.test>\r\n", "<a@b.test>"),
        (b"MESSAGE-id :\r\n <a@b.test>\r\nTo: x\r\n", "<a@b.test>"),
        (b"Subject: Message-ID: <no>\r\nTo: a,\r\n Message-ID: <no>\r\n", ""),
        (b"Message-ID-Of-Old: <no>\r\nMessage-ID: <a@b.test>\r\n", "<a@b.test>"),
        (b"message-id without a colon\r\nMessage-ID: <a@b.test>\r\n", "<a@b.test>"),
        (b"Message-ID: <one>\r\nMessage-ID: <two>\r\n", "<one>"),
        (b"Message-ID: \xff\r\n", "\ufffd"),
    ],
)
def test_message_id(header: bytes, found: str) -> None:
    assert message_id(header) == found
