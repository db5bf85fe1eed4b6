"""What nodes run: the images' recipe, the boot scripts, and the manifest for Kubernetes."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
def test_images_install_exactly_the_tested_files(image: str) -> None:
    """Every package by its hash, but the project itself, which is a folder, and torch's builds for CPUs."""
    (install,) = [line for line in stages()[image].splitlines() if "pip install" in line]
    commands = [command.split() for command in install.removeprefix("RUN ").split("&&")]
    by_hash, other = [], []
    for words in (words for words in commands if words[:2] == ["pip", "install"]):
        (by_hash if "--require-hashes" in words else other).append(words)
    assert len(by_hash) == 1
    assert {"--no-deps", "--only-binary"} <= set(by_hash[0])
    for words in other:
        local = words[-1] == "/src" and "--no-index" in words
        torch = words[-2:] == ["torch", "torchvision"] and "/src/constraints.txt" in words and image == "ray-cpu"
        assert local or torch, words
    assert commands[-1][:2] == ["sh", "/src/exact.sh"], "what got in without a tested version must be found"


def test_the_hashes_are_those_of_the_tested_versions() -> None:
    def pins(*names: str) -> dict[str, str]:
        lines = [line for name in names for line in (INFRA / "images" / name).read_text().splitlines()]
        return {canonicalize_name(name): v for name, _, v in (x.partition("==") for x in lines if x[:1] not in "#")}

    tested = pins("../../constraints.txt", "mlflow.txt") | dict.fromkeys(("pip", "setuptools", "wheel"), "")
    for file in sorted((INFRA / "images/hashes").glob("*.txt")):
        for line in file.read_text().splitlines():
            name, version = re.fullmatch(r"([a-z0-9-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line).groups()  # type: ignore[union-attr]
            assert tested[name] in (version, ""), line
    images = {"ray": pins("hashes/ray.txt", "hashes/cuda.txt"), "mlflow": pins("hashes/mlflow.txt")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for name, texts in project["optional-dependencies"].items() if name != "dev" for text in texts]
    needed = {canonicalize_name(Requirement(text).name) for text in [*project["dependencies"], *extras]}
    assert not needed - {project["name"]} - images["ray"].keys()
    assert {"mlflow", "boto3", "flask-wtf", "psycopg-binary"} <= images["mlflow"].keys()


def test_torch_and_torchvision_come_from_one_index() -> None:
    """The pair of the CPU image is named in one command, and that of the GPU image is in one file of hashes."""
    indices = {image: re.findall(r"--index-url \S+ +(.+?) +&&", stages()[image]) for image in IMAGES}
    assert indices == {"ray-cpu": ["torch torchvision"], "ray-gpu": [], "mlflow": []}
    pair = {name: "torch" in (INFRA / f"images/hashes/{name}.txt").read_text() for name in ("ray", "cuda", "mlflow")}
    assert pair == {"ray": False, "cuda": True, "mlflow": False}


def test_what_is_downloaded_is_pinned() -> None:
    text = DOCKERFILE.read_text()
    assert re.findall(r"^FROM (\S+) AS base$", text, flags=re.MULTILINE) == [
        "python:3.11-slim-bookworm@${PYTHON_DIGEST}"
    ]
    assert "ARG PYTHON_DIGEST\n" in text, "from pins.env alone"
    assert all("--checksum=${RDS_CHECKSUM}" in line for line in re.findall(r"^ADD .*https?://.*$", text, re.MULTILINE))


DOCKER = """#!/bin/sh
echo "$@" >>"$CALLS"
case "$*" in
*python:3.11-slim-bookworm) echo "python@sha256:base" ;;
*"image inspect"*) for last; do :; done; echo "other@sha256:wrong"; echo "registry/fss@sha256:$last" ;;
esac
"""


def test_pushed_images_are_named_by_their_digests(tmp_path: Path) -> None:
    """The scripts with a Docker and a curl that only say what they were asked."""
    images = tmp_path / "infra/images"
    images.mkdir(parents=True)
    for name in ("build.sh", "push.sh"):
        (images / name).write_bytes((INFRA / "images" / name).read_bytes())
    for name, text in {"docker": DOCKER, "curl": "#!/bin/sh\necho certificates\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "VERSION": "7",
        "CALLS": f"{tmp_path}/calls",
    }
    for _ in range(2):
        subprocess.run(["sh", images / "push.sh", "registry/fss", tmp_path], env=environment, check=True)
    written = json.loads((tmp_path / "images.auto.tfvars.json").read_text())
    assert written == {"images": {name: f"sha256:registry/fss:{name}-7" for name in IMAGES}}
    checksum = hashlib.sha256(b"certificates\n").hexdigest()
    assert (images / "pins.env").read_text() == f"PYTHON_DIGEST=sha256:base\nRDS_CHECKSUM=sha256:{checksum}\n"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len([call for call in calls if call.startswith("pull")]) == 1, "the second build takes the pins"
    builds = [call for call in calls if call.startswith("build")]
    assert len(builds) == 6
    assert all(f"PYTHON_DIGEST=sha256:base --build-arg RDS_CHECKSUM=sha256:{checksum}" in build for build in builds)


@pytest.mark.parametrize("image", IMAGES)
def test_images_run_without_root_and_tell_their_health(image: str) -> None:
    stage = stages()[image]
    assert re.findall(r"^USER (\w+)$", stage, flags=re.MULTILINE) == ["fss"]
    assert "HEALTHCHECK" in stage


def test_nodes_run_the_images_of_the_dockerfile() -> None:
    """Terraform and Kubernetes name its targets: the one with CUDA where the GPUs are, the other elsewhere."""
    groups = rayjob()["spec"]["rayClusterSpec"]
    pods = {"head": groups["headGroupSpec"]} | {group["groupName"]: group for group in groups["workerGroupSpecs"]}
    names = {name: pod["template"]["spec"]["containers"][0]["image"] for name, pod in pods.items()}
    targets = {name: re.fullmatch(r"REGISTRY/fss@sha256:(.+)", image)[1] for name, image in names.items()}  # type: ignore[index]
    assert targets == {"head": "RAY_CPU", "cpu": "RAY_CPU", "gpu": "RAY_GPU"}, "by digests, to be filled in"
    platform = (INFRA / "modules/platform/main.tf").read_text()
    assert re.search(r'images += \{ cpu = var.images\["ray-cpu"\], gpu = var.images\["ray-gpu"\] \}', platform)
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
def manifest() -> dict[str, Any]:
    return rayjob()


def rayjob() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((INFRA / "kubernetes/rayjob.yaml").read_text())
    return found


def pods(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    groups = manifest["spec"]["rayClusterSpec"]
    named = {"head": groups["headGroupSpec"]} | {group["groupName"]: group for group in groups["workerGroupSpecs"]}
    return {name: group["template"] for name, group in named.items()}


def test_pods_cannot_write_to_their_image_and_speak_tls(manifest: dict[str, Any]) -> None:
    autoscaler = manifest["spec"]["rayClusterSpec"]["autoscalerOptions"]
    assert autoscaler["securityContext"]["readOnlyRootFilesystem"]
    for name, pod in pods(manifest).items():
        spec = pod["spec"]
        (container,) = spec["containers"]
        for each in (container, *spec["initContainers"]):
            assert each["securityContext"]["readOnlyRootFilesystem"], name
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {mount["mountPath"] for mount in each["volumeMounts"]} >= {"/tmp", "/certificates"}
        variables = {each["name"]: each.get("value") for each in container["env"]}
        tls = {each["name"]: each["value"] for each in autoscaler["env"]}
        assert {"RAY_USE_TLS": "1"}.items() <= tls.items() <= variables.items()
        assert str(variables["MLFLOW_TRACKING_URI"]).startswith("https://")
        assert {each["mountPath"] for each in container["volumeMounts"]} >= {"/home/fss"}
        authorities = {each["secret"]["secretName"] for each in spec["volumes"] if "secret" in each}
        assert authorities == {"fss-authority", "fss-tracking-certificate"}
        mounted = [mount["name"] for mount in container["volumeMounts"]]
        assert "authority" not in mounted, "the key that signs certificates is out of reach of jobs"


def test_only_the_clusters_own_pods_reach_it_and_it_reaches_few_ports(manifest: dict[str, Any]) -> None:
    own = yaml.safe_load((INFRA / "kubernetes/network-policy.yaml").read_text())
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifest).items()}
    assert set(map(str, labels.values())) == {str(own["spec"]["podSelector"]["matchLabels"])}
    assert own["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule.get("from") for rule in own["spec"]["ingress"])
    for rule in own["spec"]["egress"]:
        assert rule.get("to"), "no rule is for every address"
        inside = [peer for peer in rule["to"] if "podSelector" in peer]
        assert inside or {port["port"] for port in rule["ports"]} <= {53, 443}


def test_the_manifest_has_known_fields_alone(manifest: dict[str, Any]) -> None:
    jsonschema.validate(manifest, RAY_JOB)


def test_the_manifest_runs_the_tested_ray_and_a_command_that_the_job_understands(manifest: dict[str, Any]) -> None:
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
