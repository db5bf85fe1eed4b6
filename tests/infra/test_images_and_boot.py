"""What nodes run: the images' recipe, the boot scripts, and the manifest for Kubernetes."""

import os
import re
import shlex
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipelines.masksplit import MaskSplitJobConfig
from tests.helpers.commands import parse_command
from tests.helpers.infra.rayjob_schema import RAY_JOB
from tests.helpers.infra.terraform_copy import INFRA

ROOT = INFRA.parent
DOCKERFILE = INFRA / "images/Dockerfile"
SCRIPTS = sorted(INFRA.rglob("*.sh"))


def stages() -> dict[str, str]:
    """The Dockerfile's stages by name."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    pieces = re.split(r"^FROM \S+ AS (\w+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


@pytest.mark.parametrize("image", ["ray", "mlflow"])
def test_images_install_exactly_the_tested_versions(image: str) -> None:
    (install,) = [line for line in stages()[image].splitlines() if "pip install" in line]
    constraints = re.search(r"--constraint (\S+)", install)
    assert constraints is not None
    assert install.endswith(f"sh /src/exact.sh {constraints[1]}"), "what got in without a tested version must be found"


@pytest.mark.parametrize("image", ["ray", "mlflow"])
def test_images_run_without_root_and_tell_their_health(image: str) -> None:
    stage = stages()[image]
    assert re.findall(r"^USER (\w+)$", stage, flags=re.MULTILINE) == ["fss"]
    assert "HEALTHCHECK" in stage


def test_everything_that_images_copy_is_there() -> None:
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE.read_text(), flags=re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize(("frozen", "passes"), [("a==1\nB==2", True), ("a==1\nB==3", False), ("a==1\nc==1", False)])
def test_a_version_that_was_not_tested_fails_the_build(tmp_path: Path, frozen: str, passes: bool) -> None:
    pip = tmp_path / "pip"
    name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]  # constraints do not name it
    own = f"case $* in *'--exclude {name}'*) ;; *) echo '{name} @ file:///src' ;; esac"
    pip.write_text(f"#!/bin/sh\n[ $1 = check ] && exit\nprintf '%s\\n' {shlex.quote(frozen)}\n{own}\n")
    pip.chmod(0o755)
    (tmp_path / "constraints.txt").write_text("a==1\nB==2\n")
    build = subprocess.run(
        ["sh", INFRA / "images/exact.sh", tmp_path / "constraints.txt"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
    )
    assert (build.returncode == 0) == passes


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_stop_at_errors(script: Path) -> None:
    shell = script.read_text().splitlines()[0].removeprefix("#!/bin/")
    subprocess.run([shell, "-n", script], check=True)
    assert re.search(r"^set -eu", script.read_text(), flags=re.MULTILINE)


@pytest.fixture
def manifest() -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((INFRA / "kubernetes/rayjob.yaml").read_text())
    return found


def test_the_manifest_has_known_fields_alone(manifest: dict[str, object]) -> None:
    jsonschema.validate(manifest, RAY_JOB)


def test_the_manifest_runs_the_tested_ray_and_a_command_that_the_job_understands(manifest: dict[str, object]) -> None:
    spec = manifest["spec"]
    assert isinstance(spec, dict)
    assert spec["rayClusterSpec"]["rayVersion"] == version("ray")
    words = shlex.split(spec["entrypoint"])
    assert words[:3] == ["python", "-m", "pipelines.masksplit"]
    config = parse_command(words)
    assert isinstance(config, MaskSplitJobConfig)
    assert config.output.startswith("s3://")
    assert config.train.scale.device == "cuda"
