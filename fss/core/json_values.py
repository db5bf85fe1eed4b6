"""Parse JSON of unknown origin: whatever is wrong with it is one ValueError that names the file."""

import json
from typing import Any


def parse_json(data: str | bytes, what: str) -> Any:
    """Return the value of a JSON text.

    Args:
        data: the text.
        what: its name in the error message, such as the path of the file.

    Raises:
        ValueError: it is not valid JSON, or its brackets are nested too deeply.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError(f"{what} is not valid JSON: its brackets are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is not valid JSON: {error}") from error


def parse_object(data: str | bytes, what: str) -> dict[str, Any]:
    """Return the JSON object of a text; arguments as in :func:`parse_json`.

    Raises:
        ValueError: it is no JSON object.
    """
    value = parse_json(data, what)
    if not isinstance(value, dict):
        raise ValueError(f"{what} contains a JSON {type(value).__name__}; expected a JSON object")
    return value
