"""Redaction of passwords in what is logged."""

import re

_PASSWORD = re.compile(r"(\w[\w+.-]*://[^\s:/@]*):[^\s/@]*@")


def redact_passwords(text: str) -> str:
    """Replace the password in every URL of a text: ``postgresql://me:***@host/db``."""
    return _PASSWORD.sub(r"\1:***@", text)
