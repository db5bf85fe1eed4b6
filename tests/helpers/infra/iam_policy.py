"""A role's policy files, filled in and evaluated: what IAM would say to a call."""

import fnmatch
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_CONTEXT: Mapping[str, str] = {}


@dataclass(frozen=True)
class Policy:
    """Statements that allow; a role of this project has no others."""

    statements: tuple[Mapping[str, Any], ...]

    @classmethod
    def read(cls, paths: Sequence[Path], values: Mapping[str, str]) -> "Policy":
        """Read policy templates as Terraform's templatefile would fill them in."""
        documents = [json.loads(string.Template(path.read_text()).substitute(values)) for path in paths]
        return cls(tuple(statement for document in documents for statement in document["Statement"]))

    def allows(self, action: str, resource: str, context: Mapping[str, str] = NO_CONTEXT) -> bool:
        """Tell whether any statement allows the call."""
        return any(_matches(statement, action, resource, context) for statement in self.statements)

    def allows_start(self, request: "Start") -> bool:
        """Tell whether RunInstances is allowed: IAM asks for every resource that the request touches."""
        return all(self.allows("ec2:RunInstances", arn, context) for arn, context in request.resources())

    def actions(self, service: str) -> set[str]:
        """Return the actions of one service that are allowed on anything."""
        every = [action for statement in self.statements for action in as_list(statement["Action"])]
        return {action for action in every if action.startswith(f"{service}:")}


@dataclass(frozen=True, kw_only=True)
class Start:
    """A RunInstances request, as IAM sees it: the ARNs of what it touches, and what the request says about each.

    User data are missing: IAM has no condition on them.
    """

    here: str
    """Region and account, ``eu-central-1:123456789012``."""
    template: str | None
    """ARN of the launch template."""
    image: str
    """ARN of the machine image."""
    instance_type: str
    profile: str
    """ARN of the instance profile."""
    subnet: str
    group: str
    """ARN of the security group."""
    key_pair: str | None = None
    """ARN of a key pair for SSH."""
    overridden: frozenset[str] = frozenset()
    """What the request names itself although the template has it: image, group."""
    tokens: str = "required"
    """Version 2 of the metadata service: required or optional."""
    encrypted: str = "true"
    """Whether the volumes are encrypted."""

    def resources(self) -> list[tuple[str, Mapping[str, str]]]:
        """Return the ARN and the context of every resource."""
        template = {"ec2:LaunchTemplate": self.template} if self.template else {}

        def inside(name: str) -> Mapping[str, str]:
            of_template = self.template is not None and name not in self.overridden
            return template | {"ec2:IsLaunchTemplateResource": str(of_template).lower()}

        instance = {"ec2:InstanceType": self.instance_type, "ec2:InstanceProfile": self.profile}
        instance["ec2:MetadataHttpTokens"] = self.tokens
        arn = f"arn:aws:ec2:{self.here}"
        touched = [
            (f"{arn}:instance/*", template | instance),
            (self.image, inside("image")),
            (self.group, inside("group")),
            (self.subnet, template | {"ec2:IsLaunchTemplateResource": "false"}),  # Ray names it
            (f"{arn}:network-interface/*", template),
            (f"{arn}:volume/*", template | {"ec2:Encrypted": self.encrypted}),
        ]
        touched += [(self.template, template)] if self.template else []
        return touched + ([(self.key_pair, template)] if self.key_pair else [])


def as_list(value: Any) -> list[str]:
    """Return IAM's "one or several" as a list."""
    return [value] if isinstance(value, str) else list(value)


def _matches(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    assert statement["Effect"] == "Allow", "a policy that denies needs a better evaluation than this"
    return (
        any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in as_list(statement["Action"]))
        and any(fnmatch.fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"]))
        and all(_holds(name, values, context) for name, values in statement.get("Condition", {}).items())
    )


def _holds(operator: str, expected: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    assert operator in ("StringEquals", "ArnEquals", "Bool"), f"teach this test the condition {operator}"
    return all(context.get(key) in as_list(values) for key, values in expected.items())
