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

    def actions(self, service: str) -> set[str]:
        """Return the actions of one service that are allowed on anything."""
        every = [action for statement in self.statements for action in as_list(statement["Action"])]
        return {action for action in every if action.startswith(f"{service}:")}


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
    assert operator in ("StringEquals", "ArnEquals"), f"teach this test the condition {operator}"
    return all(context.get(key) in as_list(values) for key, values in expected.items())
