"""Fresh MLflow stores as copies of one: MLflow takes two seconds to create the schema of a store."""

import tempfile
from functools import cache
from pathlib import Path

from fss.tracking.run import tracking_client


def fresh_store(folder: Path) -> str:
    """Return the URI of the store in a folder, which is made if it is missing."""
    database = folder / "mlflow.db"
    if not database.exists():
        database.write_bytes(_empty())
    return _uri(folder)


def _uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tracking_client(_uri(Path(folder))).search_experiments()
        return (Path(folder) / "mlflow.db").read_bytes()
