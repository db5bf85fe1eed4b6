"""What the tests of the infrastructure share."""

import pytest

from tests.helpers.infra.terraform_copy import Terraform, make_terraform


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Run Terraform on a copy of ``infra/`` that the whole session shares."""
    return make_terraform(tmp_path_factory.mktemp("terraform") / "infra")
