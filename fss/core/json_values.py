"""Parse JSON of unknown origin: whatever is wrong with it is one ValueError that names the file."""

import json
from typing import Any


def parse_json(data: str | bytes, what: str, *, unique: bool = False) -> Any:
    """Return the value of a JSON text.

    Args:
        data: the text.
        what: its name in the error message, such as the path of the file.
        unique: refuse a name that an object has twice, of which the last value would count.

    Raises:
        ValueError: it is not valid JSON, or its brackets are nested too deeply.
    """

    def check_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"an object has {', '.join(map(repr, twice))} twice; remove one of them")
        return values

    try:
        return json.loads(data, object_pairs_hook=check_names if unique else None)
    except RecursionError:
        raise ValueError(f"{what} is not valid JSON: its brackets are nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{what} is not valid JSON: {error}") from error


def parse_object(data: str | bytes, what: str, *, unique: bool = False) -> dict[str, Any]:
    """Return the JSON object of a text; arguments as in :func:`parse_json`.

    Raises:
        ValueError: it is no JSON object.
    """
    value = parse_json(data, what, unique=unique)
    if not isinstance(value, dict):
        raise ValueError(f"{what} contains a JSON {type(value).__name__}; expected a JSON object")
    return value
