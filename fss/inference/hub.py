"""Models on the Hugging Face Hub: download one by ``hf://user/name``, and push one with a model card.

Only safetensors, JSON and the card travel, never pickles. ``hf://user/name@revision`` names a branch, tag or commit.
"""

import re
import tempfile
from pathlib import Path
from typing import Any

from fss.core.extras import require
from fss.core.hashing import file_sha256
from fss.core.temporary import owned_prefix
from fss.inference.model_card import CARD, model_card
from fss.inference.model_files import local_checkpoint
from fss.models.checkpoint import DESCRIPTION, read_description, weights_file
from fss.models.weights.pair import WEIGHTS, WEIGHTS_KEY, check_pair, encode_description
from fss.tracking.store import require_store, tracking_client, tracking_uri

_URI = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
_FILE_SETTINGS = ("backbone_weights", "saliency_prior")  # paths on the machine of the training


def parse_hub_uri(uri: str) -> tuple[str, str | None]:
    """Return the repository and the revision of ``hf://user/name@revision``; the revision may be missing.

    Raises:
        ValueError: the URI has another form.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise ValueError(
            f"{uri} names no model of the Hugging Face Hub; write hf://USER/NAME or hf://USER/NAME@REVISION"
        )
    return match[1], match[2]


def download_from_hub(uri: str, folder: str | Path) -> Path:
    """Download the weights and the JSON of a model into ``folder`` and return it.

    Raises:
        ValueError: the URI has another form, huggingface_hub is missing, or there is no such model of this library.
    """
    repository, revision = parse_hub_uri(uri)
    hub = _import_hub()
    try:
        hub.snapshot_download(
            repository, revision=revision, local_dir=str(folder), allow_patterns=[WEIGHTS, DESCRIPTION]
        )
    except _errors() as error:
        raise ValueError(
            f"{uri} cannot be downloaded: {_first_line(error)}; check the name, the revision and the network, and log "
            "in with `hf auth login` if the model is private"
        ) from error
    try:
        read_description(folder)
    except ValueError as error:
        raise ValueError(f"{uri} is no model of fss: it must hold {WEIGHTS} and {DESCRIPTION}") from error
    return Path(folder)


def push_to_hub(model: str | Path, uri: str, *, private: bool = True, tracking: str | None = None) -> str:
    """Push a trained segmenter with a model card, and return the address of its commit.

    Paths of files are left out of the pushed settings. A card that the repository has already is kept, because its
    licence and text may have been edited.

    Args:
        model: a folder, an s3:// or MLflow URI, or the name of a registered model.
        uri: ``hf://user/name``, or ``hf://user/name@branch``, which is made if it does not exist.
        private: whether a new repository is private.
        tracking: URI of the MLflow store with the run of the model; None uses ``MLFLOW_TRACKING_URI``, or the store in
            the working directory.

    Raises:
        ValueError: there is no such model, the URI has another form, huggingface_hub is missing, or the Hub refuses.
    """
    repository, branch = parse_hub_uri(uri)
    hub = _import_hub()
    with (
        local_checkpoint(model, tracking=tracking) as checkpoint,
        tempfile.TemporaryDirectory(prefix=owned_prefix("push")) as folder,
    ):
        weights = weights_file(checkpoint)
        sha256 = file_sha256(str(weights))
        check_pair(read_description(checkpoint), sha256, str(checkpoint))
        description = _public(read_description(checkpoint))
        (Path(folder) / WEIGHTS).symlink_to(weights.resolve())
        (Path(folder) / DESCRIPTION).write_bytes(encode_description(description, sha256))
        metrics = run_metrics(description, tracking)
        (Path(folder) / CARD).write_text(model_card(uri, description, metrics), encoding="utf-8")
        api = hub.HfApi()
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            if branch is not None:
                api.create_branch(repository, branch=branch, exist_ok=True)
            kept = [CARD] if api.file_exists(repository, CARD, revision=branch) else []
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                revision=branch,
                allow_patterns=[WEIGHTS, DESCRIPTION, CARD],
                ignore_patterns=kept,
                commit_message="A segmenter of fss",
            )
        except _errors() as error:
            raise ValueError(
                f"{uri} cannot be pushed: {_first_line(error)}; log in with `hf auth login` (a token that may write)"
            ) from error
    return str(commit.commit_url)


def run_metrics(description: dict[str, Any], tracking: str | None = None) -> dict[str, float]:
    """Return the last metrics of a model's MLflow run; empty if it has no run, or the store does not know it."""
    from mlflow.exceptions import MlflowException

    run_id = description.get("training", {}).get("run_id")
    if run_id is None:
        return {}
    store = tracking_uri(tracking)
    try:
        require_store(store)
        run = tracking_client(store).get_run(run_id)
    except (MlflowException, OSError, ValueError):
        return {}
    return dict(run.data.metrics)


def _public(description: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of a checkpoint without folders of the settings; the weights get their usual name."""
    settings = {
        name: Path(value).name if name in _FILE_SETTINGS and isinstance(value, str) else value
        for name, value in description["segmenter"].items()
    }
    return {name: value for name, value in description.items() if name != WEIGHTS_KEY} | {"segmenter": settings}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _errors() -> tuple[type[Exception], ...]:
    """Return the kinds of errors of the Hub, and of a network that is away."""
    from huggingface_hub import errors

    return OSError, errors.HTTPError  # type: ignore[attr-defined]  # of the HTTP client that the Hub's library takes


def _import_hub() -> Any:
    require("hub", what="a model of the Hugging Face Hub")
    import huggingface_hub

    return huggingface_hub
