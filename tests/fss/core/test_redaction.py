"""What may be written down about a run."""

import pytest

from fss.core.redaction import redact_passwords


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
