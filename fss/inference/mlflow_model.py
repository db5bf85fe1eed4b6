"""An MLflow model that takes pictures and returns encoded masks, without pickle files.

The logged model consists of a short script that calls :func:`python_model`, a copy of this package, and a checkpoint
folder with weights as safetensors. Each row is a request: the query, a list of support pictures and a list of their
masks, each as encoded bytes (PNG, JPEG, ...; base64 in JSON) or as an 8-bit array, [H,W,3] or [H,W] (nested lists in
JSON). In place of a mask, a request may have a box, ``[left, top, right, bottom]``, a list of boxes, or a prompt, an
object with the fields of :class:`fss.inference.prompts.Prompt`, such as ``{"points": [[120, 80]]}``. The answer is a
PNG mask of the query's size, 255 on the object. The options of :meth:`fss.inference.predictor.Predictor.predict` are
the parameters of MLflow's signature, such as ``{"params": {"scales": "adaptive"}}`` beside the requests in JSON.

Queries are segmented by PyTorch, or by ONNX Runtime or OpenVINO (:mod:`fss.inference.converted`), which the server's
environment must have beside onnx and onnxscript::

    mlflow.pyfunc.load_model(uri, model_config={"backend": "openvino"})
    FSS_BACKEND=openvino mlflow models serve -m models:/birds@best --env-manager local

The network is converted when the model is loaded, and again for the first request with another number of supports.

A request is refused if it exceeds :class:`fss.inference.request_limits.RequestLimits`. One request is answered at a
time, and none that the server has given up meanwhile. A server reads a whole request before the model sees it, so a
proxy in front of it should limit the body.
"""

import base64
import importlib.metadata
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

import fss
from fss.core.config import from_dict, to_dict
from fss.core.hashing import file_sha256
from fss.core.privacy import HIDDEN, public_settings
from fss.core.temporary import owned_prefix
from fss.images.mask_codec import encode_mask
from fss.inference.inputs import Encoded, MaskLike, are_boxes, is_box
from fss.inference.model_files import local_copy
from fss.inference.painted import PaintedModelWarning
from fss.inference.predictor import Predictor, load_segmenter
from fss.inference.prompts import Prompt
from fss.inference.request_limits import SERVER_TIMEOUT, RequestLimits
from fss.models.checkpoint import CALIBRATION, DESCRIPTION, PRIOR, WEIGHTS, read_description, weights_file
from fss.models.confidence import parse_calibration
from fss.models.config import Backend, SegmenterConfig
from fss.models.saliency.network import student_config
from fss.models.weights.pair import check_pair, encode_description
from fss.tracking.delivery import Delivery
from fss.tracking.privacy import private_context, public_description
from fss.tracking.run import Run, tracking_client
from fss.visualize import png_bytes

CHECKPOINT = "checkpoint"  # the artifact's name
LIMITS = RequestLimits()
"""Limits of a request; they are in the metadata of the logged model."""
COLUMNS = ("query", "support_images", "support_masks")
OPTIONS = {
    "refine": ("boolean", True),
    "scales": ("string", "whole"),
    "flip": ("boolean", False),
    "presence_threshold": ("double", None),
}
"""Types in MLflow and defaults of the options of a prediction."""
_ENTRY = '''"""The script with which MLflow creates the served model."""

import warnings

from mlflow.models import set_model

from fss.inference.mlflow_model import python_model

with warnings.catch_warnings(record=True):  # MLflow recommends type hints, which the signature replaces
    set_model(python_model())
'''
_SETTINGS: dict[str, Callable[[Any, str], Any]] = {
    "segmenter": lambda values, origin: from_dict(SegmenterConfig, values),
    PRIOR: student_config,
    CALIBRATION: parse_calibration,
}
"""Settings in the description of a checkpoint, each with its parser."""
_REQUIREMENTS = (
    *("torch", "torchvision", "timm", "safetensors", "numpy", "pyarrow", "pillow", "opencv-python-headless"),
    *("scikit-image", "scipy", "numba", "pydantic", "annotated-types", "tyro", "lazy-loader", "tenacity"),
)


@contextmanager
def take_turn(turn: threading.Lock) -> Iterator[None]:
    """Hold a lock, since each prediction takes all cores; a request that the server has given up is refused."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    seconds = float(os.environ.get(SERVER_TIMEOUT, -1))
    if not turn.acquire(timeout=seconds):
        text = f"earlier requests took more than {seconds:g} s; send it again later, or send fewer at a time"
        raise MlflowException(text, error_code=TEMPORARILY_UNAVAILABLE)
    try:
        yield
    finally:
        turn.release()


def python_model() -> Any:
    """Return the MLflow model. The class is defined inside, so that MLflow is imported only for serving."""
    from mlflow.pyfunc.model import PythonModel

    class FewShotModel(PythonModel):
        """Answers requests with a :class:`fss.inference.predictor.Predictor`."""

        def load_context(self, context: Any) -> None:
            """Load the checkpoint once."""
            backend = served_backend(context.model_config)
            self.predictor = load_segmenter(context.artifacts[CHECKPOINT], device="cpu", backend=backend)
            self.predictor.prepare(shots=1)
            self.turn = threading.Lock()

        # There are no type hints, because MLflow would derive the signature from them.
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            """Answer each row of a DataFrame with the columns of ``COLUMNS``.

            Raises:
                MlflowException: a request is wrong, or the server has given up waiting for it; the server sends its
                    message, which it does of no other error.
            """
            import pandas as pd
            from mlflow.exceptions import MlflowException

            masks = []
            with take_turn(self.turn):
                for number, row in enumerate(model_input[list(COLUMNS)].to_dict("records"), 1):
                    try:
                        masks.append(segment_request(self.predictor, row, params))
                    except ValueError as error:
                        raise MlflowException.invalid_parameter_value(f"request {number}: {error}") from error
            return pd.DataFrame({"mask": masks})

    return FewShotModel()


def served_backend(model_config: Mapping[str, Any] | None) -> Backend:
    """Return what segments the queries: ``FSS_BACKEND`` of the environment, or ``backend`` of MLflow's model_config.

    Raises:
        ValueError: there is no such back end.
    """
    asked = os.environ.get("FSS_BACKEND") or (model_config or {}).get("backend", "torch")
    backends: tuple[Backend, ...] = get_args(Backend)
    for backend in backends:
        if backend == asked:
            return backend
    raise ValueError(f"the back end must be {', '.join(backends)}, got {asked!r}")


def segment_request(predictor: Predictor, row: dict[str, Any], options: Mapping[str, Any] | None = None) -> bytes:
    """Answer a request with a PNG mask of the query's size, 255 on the object.

    Raises:
        ValueError: the numbers of support pictures and masks differ, the request exceeds ``LIMITS``, or a picture, a
            mask or one of the options is invalid.
    """
    for column in COLUMNS[1:]:
        if not isinstance(row[column], list | tuple | np.ndarray):
            got = type(row[column]).__name__
            raise ValueError(f"{column} must be a list with one entry for each support, got {got}")
    pictures, masks = list(row["support_images"]), list(row["support_masks"])
    LIMITS.check(pictures, masks, row["query"])
    if len(pictures) != len(masks):
        raise ValueError(f"got {len(pictures)} support pictures and {len(masks)} masks; give one mask per picture")
    supports = [*map(_pixels, pictures)], [*map(_mask, masks)]
    prediction = predictor.predict(*supports, _pixels(row["query"]), **(options or {}))
    return encode_mask(prediction.mask * np.uint8(255))


def example_request() -> dict[str, list[Any]]:
    """Return a small valid request by column: a red disc as support and as query."""
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 32) ** 2 + (columns - 32) ** 2 < 200
    picture = np.where(disc[..., None], (200, 40, 40), (60, 90, 60)).astype(np.uint8)
    image, mask = png_bytes(picture), png_bytes(disc.astype(np.uint8) * 255)
    return {"query": [image], "support_images": [[image]], "support_masks": [[mask]]}


def log_model(run: Run, checkpoint: str | Path, *, name: str = "model") -> str:
    """Log a checkpoint folder as a model of ``run`` that ``mlflow.pyfunc.load_model`` and ``mlflow models serve`` read.

    Returns:
        The model's URI.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow
    import pandas as pd

    run = replace(run, run_id=Delivery(run.uri).run_id(run.run_id))
    mlflow.set_tracking_uri(run.uri)
    with tempfile.TemporaryDirectory(prefix=owned_prefix("model")) as folder:
        entry = Path(folder) / "model.py"
        entry.write_text(_ENTRY)
        artifact = Path(folder) / CHECKPOINT
        # MLflow reads a path as a URI, so %20 in its name would be a space.
        if run.private:
            _copy_public(Path(checkpoint), artifact)
        else:
            shutil.copytree(checkpoint, artifact)
        # MLflow answers the example with the model; who trained it on painted pictures need not be warned of it.
        quiet = warnings.catch_warnings(action="ignore", category=PaintedModelWarning)
        context = private_context() if run.private else nullcontext()
        with context, _unchanged_status(run), mlflow.start_run(run_id=run.run_id), quiet:
            logged = mlflow.pyfunc.log_model(
                name=name,
                step=int(read_description(checkpoint).get("training", {}).get("step", 0)),
                python_model=str(entry),
                artifacts={CHECKPOINT: str(artifact)},
                code_paths=[str(Path(fss.__file__).parent)],
                pip_requirements=[f"{package}=={importlib.metadata.version(package)}" for package in _REQUIREMENTS],
                signature=_signature(),
                metadata={"limits": to_dict(LIMITS), "backends": list(get_args(Backend))},
                model_config={"backend": "torch"},
                input_example=pd.DataFrame(example_request()),
            )
    return str(logged.model_uri)


def log_kept_model(entry: Mapping[str, Any], store: str, run_id: str) -> None:
    """Log a model that a job has kept in its spool (:func:`fss.tracking.settlement.keep_model`)."""
    run = Run(uri=store, experiment_id="", run_id=run_id, private=entry["private"])
    with local_copy(entry["checkpoint"]) as folder:
        uri = log_model(run, folder)
    run.log_metrics(entry.get("metrics", {}), model=uri.removeprefix("models:/"), dataset=entry.get("dataset"))


@contextmanager
def _unchanged_status(run: Run) -> Iterator[None]:
    """Restore the status of a run after MLflow's own context, which ends it."""
    client = tracking_client(run.uri)
    before = client.get_run(run.run_id).info
    yield
    if before.status == "RUNNING":
        client.update_run(run.run_id, status=before.status)
    else:
        client.set_terminated(run.run_id, before.status, before.end_time)


def _copy_public(checkpoint: Path, target: Path) -> None:
    """Copy the weights of a checkpoint, and of its description what a private run may say."""
    description, weights = read_description(checkpoint), weights_file(checkpoint)
    sha256 = file_sha256(str(weights))
    check_pair(description, sha256, str(checkpoint))
    kept = public_description({name: value for name, value in description.items() if name not in _SETTINGS})
    for name, parse in _SETTINGS.items():
        if name in description:
            kept[name] = public_settings(parse(description[name], str(checkpoint)))
            if name != CALIBRATION:  # the weights of the files that are hidden are among those of the checkpoint
                kept[name] = {key: None if value == HIDDEN else value for key, value in kept[name].items()}
    target.mkdir()
    shutil.copyfile(weights, target / WEIGHTS)
    (target / DESCRIPTION).write_bytes(encode_description(kept, sha256))


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, ParamSchema, ParamSpec, Schema

    # MLflow has no type for "bytes or an array"; :func:`segment_request` checks the values.
    anything = AnyType()  # type: ignore[no-untyped-call]
    inputs = Schema([ColSpec(anything, name) for name in COLUMNS])
    params = ParamSchema([ParamSpec(name, kind, default) for name, (kind, default) in OPTIONS.items()])
    return ModelSignature(inputs=inputs, outputs=Schema([ColSpec(DataType.binary, "mask")]), params=params)


def _mask(value: Any) -> MaskLike:
    """Return the mask, box, boxes or prompt of a request."""
    if isinstance(value, dict):
        names = [field.name for field in fields(Prompt)]
        if unknown := sorted(set(value) - set(names)):
            raise ValueError(f"a prompt has no {', '.join(unknown)}; it takes {', '.join(names)}")
        strokes = {name: _pixels(value[name]) for name in ("strokes", "not_strokes") if value.get(name) is not None}
        return Prompt(**{**value, **strokes})
    if is_box(value):
        return tuple(map(float, value))
    if are_boxes(value):
        return [tuple(map(float, box)) for box in value]
    return _pixels(value)


def _pixels(value: Any) -> Encoded | NDArray[np.uint8]:
    """Return a picture or mask of a request as bytes or as an array. Text must be base64; it is never a path."""
    if isinstance(value, (str, bytes)):
        return _bytes(value)
    try:
        pixels = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"the rows of a picture must have the same length: {error}") from None
    is_image = pixels.dtype.kind in "bui" and pixels.ndim in (2, 3) and pixels.size > 0
    if not is_image or pixels.min() < 0 or pixels.max() > 255:
        got = f"{pixels.dtype} {list(pixels.shape)}" if pixels.ndim else ("null" if value is None else repr(value))
        raise ValueError(f"a picture must be encoded, or [H,W,3], and a mask [H,W], of 0..255, got {got}")
    return pixels.astype(np.uint8)


def _bytes(value: str | bytes) -> bytes:
    """Decode base64; other bytes are returned unchanged.

    The two cannot be confused: the header of every picture format contains bytes that are not base64.
    """
    raw = value.encode() if isinstance(value, str) else value
    try:
        return base64.b64decode(b"".join(raw.split()), validate=True)  # some encoders break the lines
    except ValueError:
        if isinstance(value, bytes):
            return value
        raise ValueError("a picture must be encoded bytes or their base64 text, got other text") from None
