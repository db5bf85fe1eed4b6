"""The small example against a local AWS API: applied, unchanged at the second look, scaled by Ray, and destroyed."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import boto3
import pytest
import yaml
from moto.budgets import urls
from moto.budgets.responses import BudgetsResponse
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instances import Instance
from moto.ec2.models.security_groups import SecurityGroupRule

from tests.helpers.infra.terraform_copy import Terraform, make_terraform

EXAMPLE = "envs/small"
# What moto 5.2 cannot do and the example has: bucket names in host names, tags of launch templates, descriptions of
# rules about prefix lists; and the state is a local file. Everything else is applied as it is, by AWS_ENDPOINT_URL.
NO_DESCRIPTION = 'resource "aws_vpc_security_group_egress_rule" "{name}" {{\n  description = null\n}}\n'
LOCAL = {
    EXAMPLE: 'terraform {\n  backend "local" {}\n}\n'
    'provider "aws" {\n  s3_use_path_style = true\n  default_tags {\n    tags = {}\n  }\n}\n',
    "modules/ray_cluster": "".join(NO_DESCRIPTION.format(name=name) for name in ("s3", "autoscaler_s3")),
    "modules/mlflow": NO_DESCRIPTION.format(name="s3"),
}


class Budgets(BudgetsResponse):
    """Budgets with what moto 5.2 leaves out: who gets the mails, and tags."""

    tags: ClassVar[dict[str, list[dict[str, str]]]] = {}

    def create_budget(self) -> str:
        self.tags[self._get_param("Budget")["BudgetName"]] = self._get_param("ResourceTags", [])
        return super().create_budget()

    def list_tags_for_resource(self) -> str:
        return json.dumps({"ResourceTags": self.tags[self._get_param("ResourceARN").rpartition("/")[2]]})

    def describe_subscribers_for_notification(self) -> str:
        account, budget, asked = (self._get_param(name) for name in ("AccountId", "BudgetName", "Notification"))
        known = self.backend.budgets[account][budget].notifications
        return json.dumps({"Subscribers": next(one.subscribers for one in known if one.details == asked)})


def repair(patch: pytest.MonkeyPatch) -> None:
    """Make moto 5.2 answer what AWS does about budgets, rules between groups and instances with an interface."""
    patch.setattr(urls, "url_paths", dict.fromkeys(urls.url_paths, Budgets.dispatch))
    prepare, associated = Instance.prep_nics, NetworkInterface.association

    def with_groups(self: Instance, *arguments: Any, **settings: Any) -> None:
        prepare(self, *arguments, **settings)
        self.security_groups = self.security_groups or list(self.nics[0].group_set)

    patch.setattr(Instance, "prep_nics", with_groups)
    patch.setattr(NetworkInterface, "association", property(lambda self: associated.fget(self) or None))
    described = property(lambda self: (self.ip_range or self.source_group).get("Description"))
    patch.setattr(SecurityGroupRule, "description", described)


@pytest.fixture(scope="module")
def cloud(s3_server: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": s3_server,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "TF_VAR_alarm_email": "someone@example.org",
            "TF_VAR_tracking_users": '["team"]',
            "TF_VAR_images": json.dumps(dict.fromkeys(("ray-cpu", "ray-gpu", "mlflow"), f"sha256:{'0' * 64}")),
        }.items():
            patch.setenv(name, value)
        repair(patch)
        yield


@pytest.fixture(scope="module")
def terraform_here(cloud: None, tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    copy = tmp_path_factory.mktemp("apply") / "infra"
    terraform = make_terraform(copy)
    for folder, text in LOCAL.items():
        (copy / folder / "local_override.tf").write_text(text)
    return terraform


def resources(module: dict[str, Any]) -> list[dict[str, Any]]:
    inside = [one for child in module.get("child_modules", []) for one in resources(child)]
    return [one for one in module.get("resources", []) if one["mode"] == "managed"] + inside


@pytest.mark.slow
def test_apply_scale_and_destroy(terraform_here: Terraform, tmp_path: Path) -> None:
    terraform = terraform_here
    assert "Apply complete!" in terraform(EXAMPLE, "apply", "-auto-approve", "-input=false", "-no-color")
    # 0: no changes, 2: changes.
    terraform(EXAMPLE, "plan", "-input=false", "-detailed-exitcode", "-no-color")
    made = resources(json.loads(terraform(EXAMPLE, "show", "-json"))["values"]["root_module"])
    ways_in_or_out = {"aws_internet_gateway", "aws_nat_gateway", "aws_eip", "aws_lb", "aws_route", "aws_key_pair"}
    assert not ways_in_or_out & {one["type"] for one in made}
    for rule in (one["values"] for one in made if one["type"] == "aws_vpc_security_group_ingress_rule"):
        assert rule["cidr_ipv4"] in (None, "10.20.0.0/16"), rule["description"]
        assert rule["cidr_ipv6"] is None, rule["description"]

    head, autoscaler = (
        next(one["values"]["id"] for one in made if one["type"] == "aws_instance" and one["name"] == name)
        for name in ("head", "autoscaler")
    )
    assert "/etc/fss/autoscaler.yaml" not in boot_files(head)
    scale_up_and_down(yaml.safe_load(boot_files(autoscaler)["/etc/fss/autoscaler.yaml"]), head)

    assert "Destroy complete!" in terraform(EXAMPLE, "destroy", "-auto-approve", "-input=false", "-no-color")
    left = [one["Name"] for one in boto3.client("s3").list_buckets()["Buckets"]]
    assert not [name for name in left if name.startswith("fss-small")]
    assert {one["State"]["Name"] for one in instances()} == {"terminated"}


def boot_files(instance: str) -> dict[str, str]:
    """Return the files that an instance's cloud-init writes, by path."""
    attribute = boto3.client("ec2").describe_instance_attribute(InstanceId=instance, Attribute="userData")
    cloud_init = yaml.safe_load(base64.b64decode(attribute["UserData"]["Value"]))
    return {file["path"]: file["content"] for file in cloud_init["write_files"]}


def instances() -> list[dict[str, Any]]:
    reservations = boto3.client("ec2").describe_instances()["Reservations"]
    return [instance for reservation in reservations for instance in reservation["Instances"]]


def scale_up_and_down(config: dict[str, Any], head: str) -> None:
    """Let Ray's own provider find the head, start a worker of each market and end both."""
    from ray.autoscaler._private.aws import utils
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    read = AutoscalingConfig(config)
    assert read.disable_node_updaters()
    assert {name: kind.priority for name, kind in read.get_node_type_configs().items() if name.startswith("gpu")} == {
        "gpu-spot": 1,
        "gpu-ondemand": 0,
    }
    utils.resource_cache.cache_clear()
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    assert provider.non_terminated_nodes({"ray-node-kind": "head"}) == [head]
    for kind in ("gpu-spot", "cpu-ondemand"):
        provider.create_node(
            read.get_cloud_node_config(kind), {"ray-node-kind": "worker", "ray-user-node-type": kind}, 1
        )
    workers = provider.non_terminated_nodes({"ray-node-kind": "worker"})
    started = {one["InstanceId"]: one for one in instances()}
    lifecycles = {provider.node_tags(worker)["ray-user-node-type"]: started[worker] for worker in workers}
    assert lifecycles["gpu-spot"]["InstanceLifecycle"] == "spot"
    assert "InstanceLifecycle" not in lifecycles["cpu-ondemand"]
    assert lifecycles["gpu-spot"]["InstanceType"] == "g5.xlarge"
    for worker in lifecycles.values():
        tags = {tag["Key"]: tag["Value"] for tag in worker["Tags"]}
        assert tags["cluster"] == config["cluster_name"], "the budget counts by this tag"
        assert worker["SecurityGroups"] == started[head]["SecurityGroups"]
    provider.terminate_nodes(workers)
    assert provider.non_terminated_nodes({"ray-node-kind": "worker"}) == []
    utils.resource_cache.cache_clear()
