"""What may be written down about a run."""

import pytest

from fss.core.redaction import HIDDEN, redact, redact_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("cannot reach http://a:b@c: refused", "cannot reach http://a:***@c: refused"),
        ("s3://bucket/folder and 12:30 @ noon", "s3://bucket/folder and 12:30 @ noon"),
    ],
)
def test_passwords_of_addresses_are_never_shown(text: str, shown: str) -> None:
    assert redact_passwords(text) == shown


def test_a_private_run_keeps_numbers_and_plain_words_only() -> None:
    told = redact(
        {
            "images": 3,
            "private": True,
            "backbone": "timm:test_resnet.r160_in1k",
            "collection": "holiday",
            "source.path": "holiday",
            "note": "see ~/holiday/one",
            "bad files": [{"uri": "holiday", "error": "truncated: holiday"}, "IMG_1.JPG"],
            "outputs": {"mask set": "holiday"},
            "notes": ["holiday"],
            "/home/me/holiday": 1.5,
            "nothing": None,
        }
    )
    assert told == {
        "images": 3,
        "private": True,
        "backbone": "timm:test_resnet.r160_in1k",
        "collection": HIDDEN,
        "source.path": HIDDEN,
        "note": HIDDEN,
        "bad files": [{"uri": HIDDEN, "error": HIDDEN}, HIDDEN],
        "outputs": {"mask set": HIDDEN},
        "notes": [HIDDEN],
        HIDDEN: 1.5,
        "nothing": None,
    }
