"""What Terraform itself can tell without a cloud: format, validity, and every module planned with a mocked provider."""

import pytest

from tests.helpers.infra.terraform_copy import INFRA, Terraform

PLANNED = sorted(str(folder.parent.relative_to(INFRA)) for folder in INFRA.glob("*/*/tests"))


def test_format_is_terraforms_own(terraform: Terraform) -> None:
    assert terraform(".", "fmt", "-check", "-recursive", "-diff") == ""


def test_every_room_is_tested() -> None:
    composed = {"modules/platform"}  # planned whole by both examples
    rooms = {str(folder.relative_to(INFRA)) for pattern in ("modules/*", "envs/*") for folder in INFRA.glob(pattern)}
    assert set(PLANNED) == rooms - composed


@pytest.mark.parametrize("folder", ["envs/small", "envs/large"])
def test_examples_are_valid(terraform: Terraform, folder: str) -> None:
    assert "Success!" in terraform(folder, "validate", "-no-color")


@pytest.mark.parametrize("folder", PLANNED)
def test_mocked_plan(terraform: Terraform, folder: str) -> None:
    assert "Success!" in terraform(folder, "test", "-no-color")
