"""Delivery of the models that jobs keep in their spools while MLflow does not answer."""

from collections.abc import Mapping
from typing import Any

from fss.tracking.settlement import MODEL, Handlers


def model_handlers() -> Handlers:
    """Return the function that delivers kept models; what it needs is imported when there is one."""
    return {MODEL: _deliver}


def _deliver(entry: Mapping[str, Any], store: str, run_id: str) -> None:
    from fss.inference.mlflow_model import log_kept_model

    log_kept_model(entry, store, run_id)
