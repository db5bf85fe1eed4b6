"""Terraform on a copy of ``infra/``, with providers from a folder: nothing is downloaded, nothing is left behind."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

INFRA = Path(__file__).parents[3] / "infra"
PROVIDER = "registry.terraform.io/hashicorp/aws/5.100.0/linux_amd64"
"""The provider that the examples' lock files pin."""
# Terraform's own folders for providers that were put there by hand, and one more.
PROVIDER_FOLDERS = ("/opt/tf-plugins", "/usr/local/share/terraform/plugins", "~/.terraform.d/plugins")

Terraform = Callable[..., str]


def provider_folder() -> Path | None:
    """Return the folder that holds the AWS provider, named by TF_PLUGIN_DIR or one of Terraform's own."""
    folders = (os.environ.get("TF_PLUGIN_DIR"), *PROVIDER_FOLDERS)
    for folder in (Path(name).expanduser() for name in folders if name):
        if (folder / PROVIDER).exists():
            return folder
    return None


def make_terraform(copy: Path) -> Terraform:
    """Copy ``infra/`` to ``copy`` and return ``terraform(folder, *words)`` there, which returns what was printed."""
    program, plugins = shutil.which("terraform"), provider_folder()
    if program is None:
        pytest.skip("terraform is not installed")
    if plugins is None:
        pytest.skip(f"no {PROVIDER} in TF_PLUGIN_DIR or {', '.join(PROVIDER_FOLDERS)}")
    shutil.copytree(INFRA, copy, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    environment = os.environ | {"TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}

    def call(folder: str, *words: str) -> str:
        result = subprocess.run([program, *words], cwd=copy / folder, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"terraform {words[0]} in infra/{folder}:\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def terraform(folder: str, *words: str) -> str:
        if words[0] != "fmt" and not (copy / folder / ".terraform").exists():
            # The bucket of the state is not there; a test that applies has a local one.
            backend = [] if (copy / folder / "local_override.tf").exists() else ["-backend=false"]
            call(folder, "init", "-input=false", *backend, f"-plugin-dir={plugins}")
        return call(folder, *words)

    return terraform
