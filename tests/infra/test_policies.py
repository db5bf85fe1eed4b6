"""Least privilege: each role's policy allows what its programs were seen to call, and nothing beyond."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.client import BaseClient
from moto import mock_aws
from PIL import Image
from werkzeug.serving import WSGIRequestHandler

from fss.core import storage
from fss.models import SegmenterConfig
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from pipelines.evaluation.config import EvaluateSettings
from pipelines.masksplit import MaskSplitJobConfig, run
from pipelines.runtime.config import TrackingConfig
from pipelines.training.config import TrainSettings
from tests.helpers.bad_files.formats import encoded
from tests.helpers.infra.iam_policy import Policy, Start, as_list
from tests.helpers.infra.s3_requests import S3, action
from tests.helpers.infra.terraform_copy import INFRA
from tests.helpers.stores import fresh_store

REGION, ACCOUNT, CLUSTER = "eu-central-1", "123456789012", "fss-test"
HERE = f"{REGION}:{ACCOUNT}"
TEMPLATE = f"arn:aws:ec2:{HERE}:launch-template/lt-cpu"
IMAGE = f"arn:aws:ec2:{REGION}::image/ami-ours"
GROUP, SUBNET = f"arn:aws:ec2:{HERE}:security-group/sg-nodes", f"arn:aws:ec2:{HERE}:subnet/subnet-a"
VALUES = {
    "account": ACCOUNT,
    "cluster": CLUSTER,
    "region": REGION,
    "data_bucket_arn": f"{S3}data",
    "artifacts_bucket_arn": f"{S3}artifacts",
    "kms_key_arn": f"arn:aws:kms:{HERE}:key/ours",
    "repository_arn": f"arn:aws:ecr:{HERE}:repository/fss",
    "token_secret_arn": f"arn:aws:secretsmanager:{HERE}:secret:token",
    "mlflow_secret_arn": f"arn:aws:secretsmanager:{HERE}:secret:jobs",
    "certificate_secret_arn": f"arn:aws:secretsmanager:{HERE}:secret:certificate",
    "secret_arns": json.dumps([f"arn:aws:secretsmanager:{HERE}:secret:{name}" for name in ("server", "tls", "user-a")]),
    "database_secret_arn": f"arn:aws:secretsmanager:{HERE}:secret:database",
    "worker_role_arn": f"arn:aws:iam::{ACCOUNT}:role/{CLUSTER}-worker",
    "log_group_arns": json.dumps([f"arn:aws:logs:{HERE}:log-group:ray:*"]),
    "template_arns": json.dumps([TEMPLATE]),
    "worker_profile_arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/{CLUSTER}-worker",
    "instance_types": json.dumps(["c6i.2xlarge"]),
    "image_and_group_arns": json.dumps([IMAGE, GROUP]),
    "subnet_and_interface_arns": json.dumps([SUBNET, f"arn:aws:ec2:{HERE}:network-interface/*"]),
}
NODE, HEAD, AUTOSCALER = (
    INFRA / f"modules/ray_cluster/policies/{name}.json" for name in ("node", "head", "autoscaler")
)
SERVER = INFRA / "modules/mlflow/policies/server.json"
ROLES = {"worker": (NODE,), "head": (NODE, HEAD), "autoscaler": (AUTOSCALER,), "mlflow": (SERVER,)}
JOBS_RUN_WITH = ("worker", "head")
"""Roles that a submitted job can use: those of the instances that run Ray."""

# What the main job does; test_the_main_job_does_what_is_written_here records all but the deleting of old checkpoints.
JOB_CALLS = {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
# Nothing fails there. The parts of a broken upload would be paid for until the lifecycle rule finds them.
AFTER_A_FAILURE = {"s3:AbortMultipartUpload"}


def policy(role: str) -> Policy:
    return Policy.read(ROLES[role], VALUES)


@pytest.fixture
def seen(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """The calls that the object store gets: action and ARN, the bucket's name replaced by "data"."""
    calls: list[tuple[str, str]] = []
    bucket = s3.removeprefix("s3://")

    def note(self: WSGIRequestHandler, *_: object) -> None:
        name, arn = action(self.command, self.path)
        calls.append((name, arn.replace(f"{S3}{bucket}", f"{S3}data", 1)))

    monkeypatch.setattr(WSGIRequestHandler, "log_request", note)
    yield calls


def put_pictures(uri: str) -> None:
    """Put 24 photographs of a disc or a square into an object store, and 8 more with masks in FSS-1000's layout."""
    rng = np.random.default_rng(0)
    away = np.abs(np.mgrid[-45:45, -50:50])
    shapes = {"disc": np.hypot(*away) < 22, "square": away.max(0) < 20}
    for number in range(32):
        name, inside = list(shapes.items())[number % 2]
        inside = np.roll(inside, rng.integers(-10, 10, 2), axis=(0, 1))
        colours = np.where(inside[..., None], (200, 60, 40), (50, 90, 120)) + rng.integers(-20, 20, (90, 100, 3))
        photograph = encoded("JPEG", Image.fromarray(colours.astype(np.uint8)))
        place = f"{uri}/labelled/{name}/{number}" if number < 8 else f"{uri}/raw/{number}"
        storage.write_atomically(*storage.resolve(f"{place}.jpg"), photograph)
        if number < 8:
            mask = encoded("PNG", Image.fromarray(inside.astype(np.uint8) * 255))
            storage.write_atomically(*storage.resolve(f"{place}.png"), mask)


@pytest.mark.slow
def test_the_main_job_does_what_is_written_here(
    s3: str, seen: list[tuple[str, str]], ray_local: None, tmp_path: Path
) -> None:
    put_pictures(s3)
    seen.clear()
    config = MaskSplitJobConfig(
        photographs=f"{s3}/raw",
        evaluation=f"{s3}/labelled",
        output=f"{s3}/work",
        train=TrainSettings(
            segmenter=SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80),
            stream=StreamConfig(batch_size=8, lanes=8, held_out=0.05),
            optimizer=OptimizerConfig(steps=2),
        ),
        evaluate=EvaluateSettings(episodes=6, shots=(1,)),
        tracking=TrackingConfig(uri=fresh_store(tmp_path)),
    )
    assert run(config).worked
    # A job deletes the claims on its outputs and old checkpoints.
    assert {name for name, _ in seen} == JOB_CALLS
    # A library also lists "$extremelyunlikelytoexist$": a bucket that is not ours stays shut.
    ours = {call for call in seen if call[1].startswith(f"{S3}data")}
    for role in ("worker", "head"):
        refused = {call for call in ours if not policy(role).allows(*call)}
        assert not refused, f"the {role} may not do what the job did"


def test_jobs_get_what_they_use_of_s3_and_no_more() -> None:
    for role in ("worker", "head"):
        assert policy(role).actions("s3") == JOB_CALLS | AFTER_A_FAILURE


def test_the_tracking_server_gets_what_it_uses_of_s3(s3: str, seen: list[tuple[str, str]], tmp_path: Path) -> None:
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    (tmp_path / "small.txt").write_text("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_S3_ENDPOINT_URL", boto3.client("s3").meta.endpoint_url)
        artifacts = S3ArtifactRepository(f"{s3}/mlflow/1/run/artifacts")
        artifacts.log_artifact(str(tmp_path / "small.txt"))
        assert [one.path for one in artifacts.list_artifacts()] == ["small.txt"]
        artifacts.download_artifacts("small.txt", str(tmp_path))
        artifacts.delete_artifacts()
    calls = {(name, arn.replace(f"{S3}data", f"{S3}artifacts")) for name, arn in seen}
    # Deleting several objects is one request on the bucket; IAM checks each object.
    calls = {(name, f"{S3}artifacts/mlflow/1/run/artifacts/small.txt" if "*" in arn else arn) for name, arn in calls}
    server = policy("mlflow")
    assert not {call for call in calls if not server.allows(*call)}
    assert server.actions("s3") == {name for name, _ in calls} | AFTER_A_FAILURE


@pytest.mark.parametrize(
    ("role", "call", "arn"),
    [
        ("worker", "s3:GetObject", f"{S3}artifacts/mlflow/model"),
        ("worker", "s3:GetObject", f"{S3}another-bucket/secret"),
        ("worker", "s3:DeleteObjectVersion", f"{S3}data/x"),
        ("worker", "s3:DeleteBucket", f"{S3}data"),
        ("worker", "s3:PutBucketPolicy", f"{S3}data"),
        ("worker", "ec2:RunInstances", "*"),
        ("worker", "iam:PassRole", VALUES["worker_role_arn"]),
        ("worker", "secretsmanager:PutSecretValue", VALUES["token_secret_arn"]),
        ("worker", "secretsmanager:GetSecretValue", VALUES["database_secret_arn"]),
        ("worker", "kms:Decrypt", VALUES["kms_key_arn"]),  # only through S3 and Secrets Manager
        ("autoscaler", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{CLUSTER}-head"),
        ("autoscaler", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{CLUSTER}-autoscaler"),
        ("autoscaler", "ec2:CreateTags", f"arn:aws:ec2:{HERE}:instance/i-somebodys"),
        ("autoscaler", "s3:GetObject", f"{S3}data/photographs/1.jpg"),
        ("autoscaler", "secretsmanager:GetSecretValue", VALUES["mlflow_secret_arn"]),
        ("autoscaler", "secretsmanager:PutSecretValue", VALUES["token_secret_arn"]),
        ("head", "ecr:PutImage", VALUES["repository_arn"]),
        ("mlflow", "s3:GetObject", f"{S3}data/photographs/1.jpg"),
        ("mlflow", "s3:PutObject", f"{S3}artifacts/elsewhere"),
        ("mlflow", "secretsmanager:PutSecretValue", VALUES["database_secret_arn"]),
        ("mlflow", "ec2:RunInstances", "*"),
    ],
)
def test_refused(role: str, call: str, arn: str) -> None:
    assert not policy(role).allows(call, arn)


@pytest.mark.parametrize("role", ROLES)
def test_no_action_is_a_pattern_and_few_are_for_everything(role: str) -> None:
    statements = policy(role).statements
    assert not [action for one in statements for action in as_list(one["Action"]) if "*" in action]
    everywhere = {one["Sid"] for one in statements if "*" in as_list(one["Resource"]) and "Condition" not in one}
    # These calls know no resource.
    assert everywhere <= {"LogInToImages", "SessionsInsteadOfSsh", "SeeInstances"}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The calls of Ray's autoscaler: operation and parameters."""
    made: list[tuple[str, dict[str, Any]]] = []
    call = BaseClient._make_api_call

    def note(self: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
        made.append((operation, parameters))
        return call(self, operation, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", note)
    return made


@mock_aws
def test_the_autoscaler_may_do_what_rays_autoscaler_does(
    calls: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.autoscaler._private.aws import utils
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    utils.resource_cache.cache_clear()
    ec2 = boto3.client("ec2", REGION)
    network = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=network, CidrBlock="10.0.0.0/20")["Subnet"]["SubnetId"]
    ec2.create_launch_template(LaunchTemplateName="cpu", LaunchTemplateData={"ImageId": "ami-12c6146b"})
    tags = [{"Key": "ray-cluster-name", "Value": CLUSTER}]
    config = {  # as in workers.tf; the slow test has the real one
        "InstanceType": "c6i.2xlarge",
        "SubnetIds": [subnet],
        "LaunchTemplate": {"LaunchTemplateName": "cpu"},
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }
    calls.clear()
    provider = AWSNodeProvider({"region": REGION, "cache_stopped_nodes": False}, CLUSTER)
    provider.create_node(config, {"ray-node-kind": "worker", "ray-user-node-type": "cpu-spot"}, 1)
    (worker,) = provider.non_terminated_nodes({"ray-node-kind": "worker"})
    provider.terminate_nodes([worker])
    utils.resource_cache.cache_clear()

    may = policy("autoscaler")
    asked = dict(calls)
    assert set(asked) == {"RunInstances", "DescribeInstances", "TerminateInstances"}
    assert may.allows("ec2:DescribeInstances", "*")
    # What Ray names itself is the type and the subnet; image, group, profile, disks and user data are the template's.
    named = {"InstanceType", "SubnetId", "LaunchTemplate", "TagSpecifications", "MinCount", "MaxCount"}
    assert set(asked["RunInstances"]) - {"NetworkInterfaces", "ClientToken"} <= named
    assert may.allows_start(START)
    worker_is = {}
    for specification in asked["RunInstances"]["TagSpecifications"]:
        given = {tag["Key"]: tag["Value"] for tag in specification["Tags"]}
        context = {f"aws:RequestTag/{key}": value for key, value in given.items()}
        arn = f"arn:aws:ec2:{HERE}:{specification['ResourceType']}/new"
        assert may.allows("ec2:CreateTags", arn, context | {"ec2:CreateAction": "RunInstances"})
        if specification["ResourceType"] == "instance":
            worker_is = {f"aws:ResourceTag/{key}": value for key, value in given.items()}
    instance = f"arn:aws:ec2:{HERE}:instance/{worker}"
    assert may.allows("ec2:TerminateInstances", instance, worker_is)
    assert not may.allows("ec2:TerminateInstances", instance, worker_is | {"aws:ResourceTag/ray-node-kind": "head"})
    assert not may.allows("ec2:TerminateInstances", instance, worker_is | {"aws:ResourceTag/ray-cluster-name": "b"})
    assert may.allows("iam:PassRole", VALUES["worker_role_arn"], {"iam:PassedToService": "ec2.amazonaws.com"})


START = Start(
    here=HERE,
    template=TEMPLATE,
    image=IMAGE,
    instance_type="c6i.2xlarge",
    profile=VALUES["worker_profile_arn"],
    subnet=SUBNET,
    group=GROUP,
)
"""What the autoscaler asks for."""
OTHER_STARTS: dict[str, dict[str, Any]] = {
    "as the autoscaler": {},
    "another image": {"image": f"arn:aws:ec2:{REGION}::image/ami-other", "overridden": frozenset({"image"})},
    "our image, but named": {"overridden": frozenset({"image"})},
    "another type": {"instance_type": "p5.48xlarge"},
    "another template": {"template": f"{TEMPLATE}-of-others"},
    "no template": {"template": None},
    "another profile": {"profile": f"arn:aws:iam::{ACCOUNT}:instance-profile/{CLUSTER}-autoscaler"},
    "another subnet": {"subnet": f"arn:aws:ec2:{HERE}:subnet/subnet-public"},
    "another group": {"group": f"arn:aws:ec2:{HERE}:security-group/sg-open", "overridden": frozenset({"group"})},
    "a key for SSH": {"key_pair": f"arn:aws:ec2:{HERE}:key-pair/mine"},
    "open metadata": {"tokens": "optional"},
    "open disks": {"encrypted": "false"},
}


@pytest.mark.parametrize("change", OTHER_STARTS)
def test_a_job_starts_no_instance_and_the_autoscaler_only_workers(change: str) -> None:
    request = replace(START, **OTHER_STARTS[change])
    assert policy("autoscaler").allows_start(request) == (change == "as the autoscaler")
    for role in (*JOBS_RUN_WITH, "mlflow"):
        assert not policy(role).allows_start(request)


@pytest.mark.parametrize("role", JOBS_RUN_WITH)
def test_a_job_has_no_way_to_user_data_or_to_the_role_that_starts_instances(role: str) -> None:
    """IAM has no condition on user data: who may start an instance, or change a template or an image, chooses them."""
    may = policy(role)
    assert may.actions("ec2") | may.actions("iam") | may.actions("sts") | may.actions("ssm") == {
        "ssm:UpdateInstanceInformation"
    }
    assert {name for name in may.actions("ecr") if not name.startswith(("ecr:Get", "ecr:BatchGet"))} == set()


def test_the_autoscaler_shares_no_machine_with_jobs() -> None:
    """Its container starts no Ray node, nothing reaches its instance, and the head runs no autoscaler."""
    cluster = INFRA / "modules/ray_cluster"
    script = (cluster / "files/ray-node.sh").read_text()
    start = {role: line for role in ("head", "worker") for line in script.splitlines() if f"    {role}) start" in line}
    assert "--no-monitor" in start["head"]
    assert "--autoscaling-config" not in "".join(start.values())
    assert re.search(r"autoscaler\)\n +start=\(python -m ray\.autoscaler\.v2\.monitor ", script)
    rules = re.findall(r'"aws_vpc_security_group_ingress_rule" "\w+" \{(.+?)\n\}', _terraform(cluster), re.DOTALL)
    assert len(rules) == 2
    assert not [rule for rule in rules if re.search(r"\bsecurity_group_id += aws_security_group.autoscaler", rule)]
    roles = dict(
        re.findall(r'aws_instance" "(\w+)" \{.*?iam_instance_profile += (\S+)', _terraform(cluster), re.DOTALL)
    )
    assert roles == {name: f'aws_iam_instance_profile.this["{name}"].name' for name in ("head", "autoscaler")}


def _terraform(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.tf")))
