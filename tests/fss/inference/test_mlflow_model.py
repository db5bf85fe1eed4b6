"""The logged model: loads without a pickle and answers over MLflow's scoring server."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fss.inference.mlflow_model import example_request, log_model, segment_request
from fss.inference.predictor import load_segmenter
from fss.inference.prompts import Prompt
from fss.models import create_segmenter
from fss.models.checkpoint import save_checkpoint
from fss.tracking.run import Run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(
        create_segmenter(backbone="resnet18", image_size=96), tmp_path_factory.mktemp("a %20?#model")
    )


@pytest.fixture(scope="module")
def model_uri(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = Run.start("serve", uri=f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")
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


def test_the_model_has_a_signature_and_an_example(model_uri: str) -> None:
    import mlflow

    info = mlflow.models.get_model_info(model_uri)
    assert info.signature.inputs.input_names() == ["query", "support_images", "support_masks"]
    assert info.signature.outputs.input_names() == ["mask"]
    assert info.saved_input_example_info


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
    for given, prompt in ((box, Prompt(boxes=[box])), (np.array(box), Prompt(boxes=[box])), (point, Prompt(**point))):
        expected = predictor.predict([picture], [prompt], picture).mask
        np.testing.assert_array_equal(
            png(segment_request(predictor, request | {"support_masks": [given]})) > 0, expected
        )
    with pytest.raises(ValueError, match="a prompt has no circle; it takes boxes, points, not_points"):
        segment_request(predictor, request | {"support_masks": [{"circle": 1}]})


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
