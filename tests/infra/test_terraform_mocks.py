"""What Terraform can tell without a cloud: format, and every module validated and planned with a mocked provider."""

import pytest

from tests.helpers.infra.terraform_copy import INFRA, PROVIDER, Terraform

PLANNED = sorted(str(folder.parent.relative_to(INFRA)) for folder in INFRA.glob("*/*/tests"))


def test_format_is_terraforms_own(terraform: Terraform) -> None:
    assert terraform(".", "fmt", "-check", "-recursive", "-diff") == ""


def test_every_room_is_tested() -> None:
    composed = {"modules/platform"}  # planned whole by both examples
    rooms = {str(folder.relative_to(INFRA)) for pattern in ("modules/*", "envs/*") for folder in INFRA.glob(pattern)}
    assert set(PLANNED) == rooms - composed


@pytest.mark.parametrize("folder", ["envs/small", "envs/large"])
def test_the_lock_file_pins_the_provider_and_names_no_machine(terraform: Terraform, folder: str) -> None:
    lock = (INFRA / folder / ".terraform.lock.hcl").read_text()
    source, version = PROVIDER.split("/5.")[0], PROVIDER.split("/")[-2]
    assert f'provider "{source}"' in lock
    assert f'version     = "{version}"' in lock
    assert lock.count('"h1:') == 1
    assert not [line for line in lock.splitlines() if "/" in line and "registry" not in line and "h1:" not in line]
    listed = terraform(folder, "version", "-no-color")
    assert f"provider {source} v{version}" in listed


@pytest.mark.parametrize("folder", PLANNED)
def test_mocked_plan(terraform: Terraform, folder: str) -> None:
    """A plan validates the configuration first."""
    assert "Success!" in terraform(folder, "test", "-no-color")
