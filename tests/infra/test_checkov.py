"""A policy check by checkov, from an environment of its own; every exception says why, where it is made."""

import os
import re
import shutil
import subprocess

import pytest

from tests.helpers.infra.terraform_copy import INFRA


def test_checkov_finds_nothing() -> None:
    program = os.environ.get("CHECKOV") or shutil.which("checkov")
    if program is None:
        pytest.skip("checkov is not installed, and CHECKOV names none (infra/README.md says how to get it)")
    words = ["--directory", INFRA, "--framework", "terraform", "dockerfile", "kubernetes", "--compact", "--quiet"]
    found = subprocess.run([program, *words, "--skip-download"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Passed checks" in found.stdout, found.stdout + found.stderr


def test_every_exception_has_a_reason() -> None:
    files = [path for path in INFRA.rglob("*") if path.suffix in (".tf", ".yaml") or path.name == "Dockerfile"]
    skips = [line for path in files for line in path.read_text().splitlines() if "checkov:skip" in line]
    assert skips
    for line in skips:
        assert re.search(r"checkov:skip=CKV2?_[A-Z]+_\d+:\s?\S+ \S+ \S+", line), line
