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
IMAGES = ["ray-cpu", "ray-gpu", "mlflow"]
SCRIPTS = sorted(INFRA.rglob("*.sh"))


def stages() -> dict[str, str]:
    """The lines of each stage of the Dockerfile, those of the stages that it starts from included."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    pieces = re.split(r"^FROM (\S+) AS ([\w-]+)$", text, flags=re.MULTILINE)[1:]
    lines: dict[str, str] = {}
    for parent, name, own in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        lines[name] = lines.get(parent, "") + own
    return lines


@pytest.mark.parametrize("image", IMAGES)
def test_images_install_exactly_the_tested_versions(image: str) -> None:
    (install,) = [line for line in stages()[image].splitlines() if "pip install" in line]
    commands = [command.split() for command in install.removeprefix("RUN ").split("&&")]
    files = {words[words.index("--constraint") + 1] for words in commands if words[:2] == ["pip", "install"]}
    assert len(files) == 1
    assert commands[-1] == ["sh", "/src/exact.sh", *files], "what got in without a tested version must be found"


def test_torch_and_torchvision_come_from_one_index() -> None:
    """The pair of the CPU image is named in one command, and that of the GPU image comes with the package."""
    indices = {image: re.findall(r"--index-url \S+ +(.+?) +&&", stages()[image]) for image in IMAGES}
    assert indices == {"ray-cpu": ["torch torchvision"], "ray-gpu": [], "mlflow": []}


@pytest.mark.parametrize("image", IMAGES)
def test_images_run_without_root_and_tell_their_health(image: str) -> None:
    stage = stages()[image]
    assert re.findall(r"^USER (\w+)$", stage, flags=re.MULTILINE) == ["fss"]
    assert "HEALTHCHECK" in stage


def test_nodes_run_the_images_of_the_dockerfile() -> None:
    """Terraform and Kubernetes name its targets: the one with CUDA where the GPUs are, the other elsewhere."""
    groups = yaml.safe_load((INFRA / "kubernetes/rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    pods = {"head": groups["headGroupSpec"]} | {group["groupName"]: group for group in groups["workerGroupSpecs"]}
    names = {name: pod["template"]["spec"]["containers"][0]["image"] for name, pod in pods.items()}
    targets = {name: re.sub(r".*/fss:(.+)-[0-9.]+$", r"\1", image) for name, image in names.items()}
    assert targets == {"head": "ray-cpu", "cpu": "ray-cpu", "gpu": "ray-gpu"}
    platform = (INFRA / "modules/platform/main.tf").read_text()
    assert '{ for kind in ["cpu", "gpu"] : kind => "ray-${kind}-${var.image_version}" }' in platform
    assert set(IMAGES) < set(stages())


def test_everything_that_images_copy_is_there() -> None:
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE.read_text(), flags=re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize(
    ("frozen", "passes"),
    [("a==1\nB==2", True), ("a==1+cpu\nB==2", True), ("a==1\nB==3", False), ("a==1\nc==1", False)],
)
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
    tested = spec["rayClusterSpec"]["rayVersion"]
    assert tested == version("ray")
    assert f"ray=={tested}" in (ROOT / "constraints.txt").read_text().splitlines(), "the images have it from here"
    words = shlex.split(spec["entrypoint"])
    assert words[:3] == ["python", "-m", "pipelines.masksplit"]
    config = parse_command(words)
    assert isinstance(config, MaskSplitJobConfig)
    assert config.output.startswith("s3://")
    assert config.train.scale.device == "cuda"
