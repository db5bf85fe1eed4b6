"""MLflow's tracking store: its URI, its schema, its client, and whether an error comes from a store that is away.

MLflow is imported when a store is opened, not with this module. Without a tracking server, everything is stored in one
SQLite file and a folder of artifacts beside it. Its path is made absolute because Ray workers run in other directories.
"""

import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fss.core import versioned
from fss.core.redaction import redact_passwords
from fss.core.storage import decode_path
from fss.core.storage_errors import explain_storage_error

T = TypeVar("T")

DEFAULT_URI = "sqlite:///mlflow.db"
LOCAL_SERVER = "http://127.0.0.1:5000"
"""Address of the server that ``mlflow ui`` starts."""
_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of experiments that train models. MLflow 3.17 ignores it, and opens the page that the address of a link names."""
# By default, MLflow tries a server that is away for minutes. The spool tries again anyway.
_HTTP = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
LOCKED_S = 60.0
"""Seconds that a request waits for a SQLite store that another process has locked."""
_LOCKED, _FULL = "database is locked", "database or disk is full"
_STORES = (
    "give a SQLite file (sqlite:///mlflow.db) or a server (http://HOST:5000) as --tracking.uri or MLFLOW_TRACKING_URI"
)
_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"}


class UnusableStoreError(ValueError):
    """The URI does not name a store that MLflow can open, so that it is useless to wait for it."""


def tracking_uri(uri: str | None = None) -> str:
    """Return the tracking URI: ``uri``, else ``MLFLOW_TRACKING_URI``, else a SQLite file in the current directory.

    A relative SQLite path becomes absolute, and its special characters are encoded as SQLAlchemy reads them.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    path = sqlite_path(uri)
    if path is None:
        return uri
    encoded = str(path).replace("%", "%25").replace("?", "%3F")
    # For the short prefix, MLflow makes a folder of the encoded name.
    prefix = "sqlite:///" if encoded == str(path) else "sqlite+pysqlite:///"
    return f"{prefix}{encoded}{_query(uri)}"


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a SQLite store; None for any other store, and for one in memory.

    A path that a user wrote without encoding it, such as ``/data/50%20off``, is taken as it is if only that exists.
    """
    store = re.match(r"sqlite(\+pysqlite)?:///(?!:memory:)", uri)
    return decode_path(uri[store.end() :].removesuffix(_query(uri))).absolute() if store else None


def ensure_experiment(uri: str, experiment: str) -> str:
    """Create the schema of the store and the experiment if missing, and return the id of the experiment.

    Raises:
        ValueError: the store does not answer.
    """
    from mlflow.exceptions import MlflowException

    path = sqlite_path(uri)
    location = (path.parent / "mlruns" / experiment).as_uri() if path else None

    def ensure() -> str:
        with _schema_lock(path):
            client = tracking_client(uri)
            existing = client.get_experiment_by_name(experiment)
            if existing is None:
                try:
                    return str(client.create_experiment(experiment, artifact_location=location, tags=_KIND))
                except MlflowException:  # another job has created it since
                    existing = client.get_experiment_by_name(experiment)
                    if existing is None:
                        raise
            return str(existing.experiment_id)

    return ask(uri, ensure)


def require_store(uri: str) -> None:
    """Check that a SQLite store exists before it is read, because MLflow would create it.

    Raises:
        ValueError: there is no such file.
    """
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise ValueError(
            f"there is no MLflow store {path}; run this in the folder of the jobs, or name their store in "
            "MLFLOW_TRACKING_URI"
        )


@contextmanager
def _schema_lock(path: Path | None) -> Iterator[None]:
    """Let one process at a time open a SQLite store, since SQLite cannot create the schema concurrently."""
    if path is None:
        yield
        return
    with versioned.locked(str(path)):
        yield


def ask(uri: str, request: Callable[[], T]) -> T:
    """Return what a request to a store returns. One to a SQLite store that another process has locked waits a minute.

    Raises:
        ValueError: the store does not answer, or its URI names none.
    """
    deadline, waiting = time.monotonic() + LOCKED_S, False
    while True:
        try:
            return request()
        except UnusableStoreError:
            raise
        except Exception as error:
            if is_refusal(error):
                raise
            cause, store = reason(error), redact_passwords(uri)
            if disk := explain_storage_error(error):
                raise ValueError(f"MLflow's store {store} cannot be used: {disk}") from error
            if cause != _LOCKED or time.monotonic() > deadline:
                raise ValueError(
                    f"MLflow's store {store} does not answer ({cause}). Start the server or free the database, or give "
                    "another store as --tracking.uri (or MLFLOW_TRACKING_URI)"
                ) from error
        if not waiting:
            say(f"{store} is locked by another process; waiting for it")
            waiting = True
        time.sleep(1)


def say(text: str) -> None:
    """Print a line about the tracking on standard error."""
    print(f"[mlflow] {text}", file=sys.stderr, flush=True)


def is_refusal(error: Exception) -> bool:
    """Return whether the store has answered and refused the request, so that it is useless to repeat it."""
    return getattr(error, "error_code", None) in _REFUSALS


def reason(error: Exception) -> str:
    """Return the cause of a failed request in a few words."""
    text = redact_passwords(str(error))
    known = re.search(rf"{_LOCKED}|{_FULL}|Connection refused|timed out|Name or service not known", text)
    return known.group() if known else (text.splitlines() or [type(error).__name__])[0][:200]


def tracking_client(uri: str) -> Any:
    """Return an MLflow client of a tracking store.

    Raises:
        UnusableStoreError: the URI names a folder, or has a scheme that MLflow does not know.
    """
    path = sqlite_path(uri)
    if path is not None and path.is_dir():  # MLflow would try to open it for two minutes
        raise UnusableStoreError(f"MLflow's store {uri} is a folder; {_STORES}")
    for name, value in _HTTP.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    # Otherwise MLflow logs every migrated table of the store, and prints the URL of every run on a server.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("mlflow.pyfunc", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints the traceback of every database error, which is raised as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

    try:
        return MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        if not is_refusal(error):
            raise
        cause = reason(error).partition(". ")[0]
        raise UnusableStoreError(
            f"MLflow cannot open the store {redact_passwords(uri)} ({cause}); {_STORES}"
        ) from error


def run_page(uri: str, experiment_id: str, run_id: str) -> tuple[str, str]:
    """Return the address of a run's page, and the command that serves it; a store that is a server needs no command.

    The address asks for the pages of model training: MLflow opens those for language models by default.
    """
    is_server = uri.startswith(("http://", "https://"))
    server = re.sub(r"//[^/@]*@", "//", uri).rstrip("/") if is_server else LOCAL_SERVER
    command = "" if is_server else f"mlflow ui --backend-store-uri {shlex.quote(redact_passwords(uri))}"
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning", command


def _query(uri: str) -> str:
    """Return the options at the end of a SQLite URI, such as ``?timeout=20``; a folder's name may hold a ``?`` too."""
    options = re.search(r"\?\w+=[^/?]*$", uri)
    return options.group() if options else ""
