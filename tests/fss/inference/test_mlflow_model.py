"""The logged model: loads without a pickle and answers over MLflow's scoring server."""

import base64
import inspect
import io
import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fss.inference import converted
from fss.inference.mlflow_model import (
    OPTIONS,
    example_request,
    log_kept_model,
    log_model,
    python_model,
    segment_request,
    served_backend,
)
from fss.inference.painted import TRAINING_DATA, PaintedModelWarning
from fss.inference.predictor import Predictor, load_segmenter
from fss.inference.prompts import Prompt
from fss.inference.request_limits import SERVER_TIMEOUT
from fss.models import create_segmenter
from fss.models.checkpoint import save_checkpoint
from fss.tracking.run import Run
from tests.helpers.stores import fresh_store


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(
        create_segmenter(backbone="resnet18", image_size=96), tmp_path_factory.mktemp("a %20?#model")
    )


@pytest.fixture(scope="module")
def model_uri(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = Run.start("serve", uri=fresh_store(tmp_path_factory.mktemp("store")))
    return log_model(run, checkpoint)


def png(value: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(value)))


def test_load_model_answers_bytes_with_a_mask(model_uri: str, checkpoint: Path) -> None:
    import mlflow

    served = mlflow.pyfunc.load_model(model_uri).predict(pd.DataFrame(example_request()))
    mask = png(served["mask"][0])
    assert mask.shape == (64, 64)
    request = {column: values[0] for column, values in example_request().items()}
    assert served["mask"][0] == segment_request(load_segmenter(checkpoint), request)


def test_scoring_server_answers_json_with_a_mask(model_uri: str) -> None:
    import mlflow
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    def text(value: bytes | list[bytes]) -> str | list[str]:
        return (
            [base64.b64encode(v).decode() for v in value]
            if isinstance(value, list)
            else base64.b64encode(value).decode()
        )

    request = {column: text(values[0]) for column, values in example_request().items()}
    with TestClient(scoring_server.init(mlflow.pyfunc.load_model(model_uri))) as http:
        response = http.post("/invocations", json={"dataframe_records": [request]})
    assert response.status_code == 200, response.text
    mask = png(base64.b64decode(json.loads(response.text)["predictions"][0]["mask"]))
    assert mask.shape == (64, 64)


def test_arrays_are_answered_like_the_bytes_of_the_same_pictures(model_uri: str) -> None:
    import mlflow
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    encoded = example_request()
    picture, mask = png(encoded["query"][0]), png(encoded["support_masks"][0][0])
    arrays = {"query": [picture], "support_images": [[picture]], "support_masks": [[mask]]}
    model = mlflow.pyfunc.load_model(model_uri)
    answered = model.predict(pd.DataFrame(arrays))["mask"][0]
    assert answered == model.predict(pd.DataFrame(encoded))["mask"][0]
    row = {"query": picture.tolist(), "support_images": [picture.tolist()], "support_masks": [mask.tolist()]}
    with TestClient(scoring_server.init(model)) as http:
        response = http.post("/invocations", json={"dataframe_records": [row]})
    assert base64.b64decode(response.json()["predictions"][0]["mask"]) == answered


def test_a_request_may_have_the_options_of_a_prediction(model_uri: str) -> None:
    import mlflow
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    picture = png(example_request()["query"][0]).tolist()
    row = {"query": picture, "support_images": [picture], "support_masks": [[16, 16, 48, 48]]}
    with TestClient(scoring_server.init(mlflow.pyfunc.load_model(model_uri))) as http:
        for options, status in (({"scales": "tiles", "flip": True}, 200), ({"scales": "all"}, 400)):
            answer = http.post("/invocations", json={"dataframe_records": [row], "params": options})
            assert answer.status_code == status, answer.text
    assert {name: default for name, (_, default) in OPTIONS.items()} == {
        name: parameter.default
        for name, parameter in inspect.signature(Predictor.predict).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def test_the_options_of_a_request_have_an_effect() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    picture[20:44, 20:44] = (200, 40, 40)
    predictor = Predictor(create_segmenter(learner="density", backbone="resnet18", image_size=96))
    row = {"query": picture, "support_images": [picture], "support_masks": [[18, 18, 46, 46]]}
    choices: list[dict[str, Any]] = [{}, {"refine": False}, {"refine": False, "scales": "tiles"}]
    answers = [segment_request(predictor, row, options) for options in choices]
    assert len(set(answers)) == 3
    for options, answer in zip(choices, answers, strict=True):
        expected = predictor.predict([picture], [(18, 18, 46, 46)], picture, **options).mask
        np.testing.assert_array_equal(png(answer) > 0, expected)


def test_the_server_says_which_request_is_wrong_and_why(model_uri: str) -> None:
    import mlflow
    from mlflow.pyfunc import scoring_server
    from starlette.testclient import TestClient

    picture = png(example_request()["query"][0]).tolist()
    right = {"query": picture, "support_images": [picture], "support_masks": [[16, 16, 48, 48]]}
    with TestClient(scoring_server.init(mlflow.pyfunc.load_model(model_uri))) as http:
        for change, reason in (
            ({"query": None}, "got null"),
            ({"query": "no picture"}, "base64"),
            ({"support_images": []}, "got 0 support pictures and 1 masks"),
            ({"support_masks": [[48, 48, 16, 16]]}, "support 1: the box .* contains no pixel"),
        ):
            answer = http.post("/invocations", json={"dataframe_records": [right, right | change]})
            assert answer.status_code == 400
            assert re.search(f"request 2: .*{reason}", answer.json()["message"]), answer.text
            assert "stack_trace" not in answer.json()


def test_a_request_that_the_server_has_given_up_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    model = python_model()
    model.predictor = Predictor(create_segmenter(learner="density", backbone="resnet18", image_size=96))
    model.turn, requests = threading.Lock(), pd.DataFrame(example_request())
    monkeypatch.setenv(SERVER_TIMEOUT, "0.1")
    with model.turn, pytest.raises(MlflowException, match=r"earlier requests took more than 0.1 s; send it again"):
        model.predict(None, requests)
    assert len(model.predict(None, requests)) == 1
    monkeypatch.delenv(SERVER_TIMEOUT)
    assert len(model.predict(None, requests)) == 1, "without a server it waits"


def test_the_model_has_a_signature_and_an_example(model_uri: str) -> None:
    import mlflow

    info = mlflow.models.get_model_info(model_uri)
    assert info.signature.inputs.input_names() == ["query", "support_images", "support_masks"]
    assert info.signature.outputs.input_names() == ["mask"]
    assert info.saved_input_example_info
    counts = {"max_supports": 32, "max_hints": 256}
    assert info.metadata["limits"] == {"max_pixels": 64_000_000, "max_bytes": 256 * 2**20, **counts}


def test_the_logged_model_holds_no_pickle(model_uri: str, tmp_path: Path) -> None:
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(model_uri, dst_path=str(tmp_path)))
    assert not [path for path in folder.rglob("*") if path.suffix in {".pkl", ".pickle", ".pt", ".pth"}]
    assert list(folder.rglob("model.safetensors"))


def test_boxes_and_prompts_stand_for_masks(checkpoint: Path) -> None:
    predictor = load_segmenter(checkpoint)
    request = {column: values[0] for column, values in example_request().items()}
    box, point = [16, 16, 48, 48], {"points": [[32, 32]]}
    picture = request["query"]
    boxes = [[16, 16, 30, 48], [30, 16, 48, 48]]
    for given, prompt in (
        *((each, Prompt(boxes=[box])) for each in (box, np.array(box))),
        *((each, Prompt(boxes=boxes)) for each in (boxes, [np.array(each) for each in boxes])),
        (point, Prompt(**point)),
    ):
        expected = predictor.predict([picture], [prompt], picture).mask
        np.testing.assert_array_equal(
            png(segment_request(predictor, request | {"support_masks": [given]})) > 0, expected
        )
    with pytest.raises(ValueError, match="a prompt has no circle; it takes boxes, points, not_points"):
        segment_request(predictor, request | {"support_masks": [{"circle": 1}]})


def test_a_request_that_is_too_large_is_refused_before_it_is_converted(checkpoint: Path) -> None:
    predictor = load_segmenter(checkpoint)
    request = {column: values[0] for column, values in example_request().items()}
    picture, large = request["query"], np.broadcast_to(np.uint8(0), (20_000, 20_000, 3))
    rows = np.empty(9_000, object)
    rows[:] = [[0] * 9_000] * 9_000
    for change in (
        *({"query": each} for each in (large, rows, [[0] * 9_000] * 9_000)),
        {"support_images": [large]},
        {"support_masks": [large[..., 0]]},
        {"support_masks": [{"strokes": large[..., 0]}]},
    ):
        with pytest.raises(ValueError, match="pixels is too large; at most 64,000,000 are allowed"):
            segment_request(predictor, request | change)
    many = {"support_images": [picture] * 33, "support_masks": request["support_masks"] * 33}
    with pytest.raises(ValueError, match="got 33 support pictures and 33 masks; a request takes at most 32"):
        segment_request(predictor, request | many)
    box = [1, 2, 30, 40]
    for mask in ([box] * 257, {"boxes": [box] * 200, "points": [[3, 4]] * 40, "not_points": [[5, 6]] * 17}):
        with pytest.raises(ValueError, match="got 257 boxes and points; a request takes at most 256"):
            segment_request(predictor, request | {"support_masks": [mask]})
    heavy = {"support_images": [np.broadcast_to(np.uint8(0), (5_000, 10_000, 3))] * 2, "support_masks": [picture] * 2}
    with pytest.raises(ValueError, match=r"the request has 300,.* bytes.*at most 268,435,456"):
        segment_request(predictor, request | heavy)


def test_a_wrong_request_says_what_is_wrong(checkpoint: Path) -> None:
    predictor = load_segmenter(checkpoint)
    request = {column: values[0] for column, values in example_request().items()}
    with pytest.raises(ValueError, match="one mask per picture"):
        segment_request(predictor, request | {"support_masks": []})
    with pytest.raises(ValueError, match="base64"):
        segment_request(predictor, request | {"query": "no picture"})
    with pytest.raises(ValueError, match="base64"):
        segment_request(predictor, request | {"query": "/etc/passwd"})
    for wrong in ([[1, 2], [3]], [[300, 0]], [1, 2], [[]], [[0.5, 0.1]]):
        with pytest.raises(ValueError, match="a picture"):
            segment_request(predictor, request | {"query": wrong})


def test_logging_a_model_of_painted_pictures_does_not_warn(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    import mlflow

    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32, image_size=96)
    painted = save_checkpoint(segmenter, tmp_path / "m", extra={TRAINING_DATA: {"painted": True, "images": 8}})
    store = mlflow.get_tracking_uri()  # of the model that the other tests share
    run = Run.start("serve", uri=fresh_store(tmp_path))
    run.end()
    log_kept_model({"checkpoint": str(painted), "private": False}, run.uri, run.run_id)
    assert mlflow.MlflowClient(run.uri).get_run(run.run_id).info.status == "FINISHED"
    mlflow.set_tracking_uri(store)
    assert not [each for each in recwarn if each.category is PaintedModelWarning]
    with pytest.warns(PaintedModelWarning):
        load_segmenter(painted)


def test_the_back_end_is_named_by_the_environment_or_the_model_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FSS_BACKEND", raising=False)
    assert served_backend(None) == served_backend({}) == "torch"
    assert served_backend({"backend": "openvino"}) == "openvino"
    monkeypatch.setenv("FSS_BACKEND", "onnxruntime")
    assert served_backend({"backend": "openvino"}) == "onnxruntime"
    monkeypatch.setenv("FSS_BACKEND", "tensorrt")
    with pytest.raises(ValueError, match="the back end must be torch, onnxruntime, openvino, got 'tensorrt'"):
        served_backend(None)


def test_a_loaded_model_has_the_back_end_of_its_config(model_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    asked: list[str] = []
    monkeypatch.setattr(converted, "check_backend", lambda backend, _: asked.append(backend) or _refuse())
    with pytest.raises(ValueError, match="openvino is not installed"):
        mlflow.pyfunc.load_model(model_uri, model_config={"backend": "openvino"})
    assert asked == ["openvino"]


def _refuse() -> str:
    raise ValueError("openvino is not installed")
