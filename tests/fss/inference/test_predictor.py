"""Segmenting a photograph by example."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import fss
from fss.core import storage
from fss.evaluation.boundary import boundary_f
from fss.inference.predictor import Predictor, SupportWarning
from fss.models import create_segmenter, save_checkpoint


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=96, width=32))


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    return rng.integers(0, 255, (height, width, 3), dtype=np.uint8), mask


def test_the_answer_has_the_querys_size_whatever_the_supports_are(predictor: Predictor) -> None:
    query, _ = picture(90, 130)
    (one, one_mask), (two, _) = picture(50, 40), picture(200, 64)
    prediction = predictor.predict([one, two], [one_mask, (16, 50, 32, 100)], query)
    assert prediction.mask.shape == prediction.probability.shape == (90, 130)
    assert (prediction.mask.dtype, prediction.probability.dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(prediction.mask, prediction.probability > 0.5)
    assert 0 <= prediction.probability.min() <= prediction.probability.max() <= 1


def test_the_mask_is_the_segmenters_at_the_querys_size(predictor: Predictor) -> None:
    query, _ = picture(96, 96)
    support, mask = picture(96, 96)
    support = support[::-1].copy()
    prediction = predictor.predict(support, mask, query, refine=False)
    tensors = (
        predictor.canvases([query]),
        predictor.canvases([support])[None],
        torch.from_numpy(mask).float()[None, None],
    )
    np.testing.assert_array_equal(prediction.mask, predictor.segmenter.predict(*tensors)[0])


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        (
            np.zeros((20, 30, 3), np.uint8),
            {},
            r"several pictures: .* got ndarray \[20, 30, 3\]; predict takes a single",
        ),
        (torch.zeros(3, 20, 30), {}, r"several pictures: .* got Tensor \[3, 20, 30\]"),
        (Image.new("RGB", (30, 20)), {}, "several pictures: .* got Image"),
        ("photos", {}, "several pictures: .* got str"),
        ([], {"batch_size": 0}, "batch_size must be a whole number of at least 1, or None, got 0"),
        ([], {"batch_size": 1.5}, "batch_size must be .* got 1.5"),
    ],
)
def test_queries_that_are_no_pictures_are_refused(
    predictor: Predictor, queries: Any, options: dict[str, Any], message: str
) -> None:
    examples = predictor.examples(*picture(64, 64))
    with pytest.raises(ValueError, match=message):
        list(examples.predict_many(queries, **options))


def test_a_stack_of_queries(predictor: Predictor) -> None:
    examples = predictor.examples(*picture(64, 64))
    stack = np.stack([picture(40, 50)[0], picture(40, 50)[0][::-1]])
    expected = [examples.predict(query).probability for query in stack]
    for queries in (stack, torch.from_numpy(stack).permute(0, 3, 1, 2)):
        np.testing.assert_array_equal([each.probability for each in examples.predict_many(queries)], expected)


@pytest.mark.parametrize(
    ("negatives", "message"),
    [
        (("a.jpg", "m.png"), r"pairs of a picture and its mask, .* it has a str"),
        (picture(20, 30), "it has a ndarray"),
        ([(*picture(20, 30), 1)], "it has a tuple of 3"),
        ([()], "it has a tuple of 0"),
        (None, "it has a NoneType"),
    ],
)
def test_negatives_that_are_no_pairs_are_refused(predictor: Predictor, negatives: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictor.examples(*picture(64, 64), negatives=negatives)


@pytest.mark.parametrize(("option", "value"), [("precision", "fp16"), ("backend", "tensorrt")])
def test_an_unknown_precision_or_back_end_is_refused(predictor: Predictor, option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"must be .*, got '{value}'"):
        Predictor(predictor.segmenter, **{option: value})  # type: ignore[arg-type]


def test_supports_are_encoded_once_for_many_queries(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    support, mask = picture(64, 64)
    queries = [picture(64 + 10 * n, 80)[0] for n in range(3)]
    single = [predictor.predict(support, mask, query).probability for query in queries]
    calls: list[int] = []
    encode = predictor.segmenter.encode_support
    monkeypatch.setattr(
        predictor.segmenter, "encode_support", lambda *args: (calls.append(len(args[0])), encode(*args))[1]
    )
    examples = predictor.examples([support], [mask])
    for query, expected in zip(queries, single, strict=True):
        np.testing.assert_array_equal(examples.predict(query).probability, expected)
    assert calls == [1]


def test_batches_of_queries_give_the_predictions_of_single_ones(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    support, mask = picture(64, 64)
    queries = [picture(64 + 10 * n, 80)[0] for n in range(5)]
    negatives = [(support[::-1].copy(), mask)]
    passes: list[int] = []
    encode = predictor.segmenter.encode_query
    monkeypatch.setattr(
        predictor.segmenter, "encode_query", lambda images: (passes.append(len(images)), encode(images))[1]
    )
    examples = predictor.examples([support], [mask], negatives=negatives)
    single = list(examples.predict_many(queries))
    assert passes == [1] * 5, "a CPU is faster without batches"
    batches = examples.predict_many(iter(queries), batch_size=2)
    for query, one, other in zip(queries, single, batches, strict=True):
        assert one.mask.shape == query.shape[:2]
        np.testing.assert_allclose(other.probability, one.probability, atol=1e-3)
        assert other.confidence == pytest.approx(one.confidence, abs=1e-3)
    assert passes[5:] == [2, 2, 1]


def test_stacked_tensors_are_several_supports(predictor: Predictor) -> None:
    support, mask = picture(64, 64)
    images = torch.from_numpy(np.stack([support, support[::-1]])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([mask, mask]))
    listed = predictor.predict([support, support[::-1]], [mask, mask], support)
    np.testing.assert_array_equal(predictor.predict(images, masks, support).probability, listed.probability)


def test_a_negative_example_of_the_object_itself_is_told(predictor: Predictor) -> None:
    (one, mask), other = picture(64, 64), picture(48, 64)
    note = "negative example 2 marks the same pixels of the same picture as support 1, so nothing is found"
    with pytest.warns(SupportWarning, match=note):
        examples = predictor.examples(one, mask, negatives=[other, (one.copy(), mask.copy())])
    assert examples.notes == (note,)
    elsewhere = np.zeros_like(mask)
    elsewhere[:20, :20] = 1
    assert not predictor.examples(one, mask, negatives=[(one, elsewhere)]).notes


def test_a_pixel_of_the_object_is_likelier_by_the_supports_than_by_the_negatives(predictor: Predictor) -> None:
    query, _ = picture(90, 130)
    (one, one_mask), (two, two_mask) = picture(50, 40), picture(200, 64)
    plain, other = (predictor.predict(*pair, query, refine=False) for pair in ((one, one_mask), (two, two_mask)))
    examples = predictor.examples(one, one_mask, negatives=[(two, two_mask)])
    assert [len(examples.supports), len(examples.negatives)] == [1, 1]
    both = examples.predict(query, refine=False)
    expected = (plain.probability > 0.5) & (plain.probability > other.probability)
    np.testing.assert_array_equal(both.mask == 1, expected)
    np.testing.assert_array_equal(both.mask == 1, both.probability > 0.5)
    assert (both.probability <= plain.probability).all()
    same = predictor.examples(one, one_mask, negatives=[(one, one_mask)]).predict(query)
    assert not same.mask.any()


def test_outlines_follow_the_edges_unless_they_are_not_refined(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, mask = picture(120, 150)
    mask[30:60, 37:75] = 1
    query[mask == 1] = (250, 20, 20)
    coarse = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 6)
    logits = torch.from_numpy(np.stack([-coarse, coarse]) * 4 - np.array([-2, 2]).reshape(2, 1, 1)).float()
    monkeypatch.setattr(predictor.segmenter, "decode", lambda *_: logits[None])
    examples = predictor.examples(query, mask)
    plain, refined = examples.predict(query, refine=False), examples.predict(query)
    assert boundary_f(refined.mask, mask) > boundary_f(plain.mask, mask)
    np.testing.assert_array_equal(refined.mask, refined.probability > 0.5)


def test_a_box_in_which_nothing_stands_out_is_a_warning(predictor: Predictor) -> None:
    plain = np.full((80, 90, 3), 200, np.uint8)
    with pytest.warns(SupportWarning, match="no object stands out in the box 20,10,60,50 .* the whole box"):
        examples = predictor.examples(plain, (20, 10, 60, 50))
    assert examples.supports[0][1].sum() == 40 * 40
    assert len(examples.notes) == 1


def test_refuses_what_it_cannot_answer(predictor: Predictor) -> None:
    query, mask = picture(64, 64)
    with pytest.raises(ValueError, match="at least one picture"):
        predictor.predict([], [], query)
    with pytest.raises(ValueError, match="1 support pictures and 2 masks"):
        predictor.predict([query], [mask, mask], query)
    large, dot = picture(2000, 2000)[0], np.zeros((2000, 2000), np.uint8)
    dot[3, 3] = 1
    with pytest.raises(ValueError, match="vanishes at the network's 96 pixels"):
        predictor.predict(large, dot, query)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": "tile"}, "scales must be whole, adaptive, tiles, got 'tile'"),
        ({"refine": "no"}, "refine must be True or False, got 'no'"),
        ({"flip": "no"}, "flip must be True or False"),
        ({"presence_threshold": 50}, r"presence_threshold must be a number in 0\.\.1, or None, got 50"),
        ({"presence_threshold": float("nan")}, "got nan"),
    ],
)
def test_options_never_mean_something_else(predictor: Predictor, options: dict[str, Any], message: str) -> None:
    query, mask = picture(64, 64)
    with pytest.raises(ValueError, match=message):
        predictor.predict(query, mask, query, **options)


@pytest.fixture(scope="module")
def output_dir(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the masksplit job, with one training below it."""
    output_dir = tmp_path_factory.mktemp("output")
    save_checkpoint(predictor.segmenter, output_dir / "models" / "masksplit-0" / "model")
    return output_dir


def test_loaded_from_the_checkpoint_or_from_a_folder_above_it(predictor: Predictor, output_dir: Path) -> None:
    support, mask = picture(64, 64)
    expected = predictor.predict(support, mask, support).probability
    for source in (
        output_dir,
        output_dir / "models",
        output_dir / "models" / "masksplit-0",
        output_dir / "models" / "masksplit-0" / "model",
    ):
        loaded = fss.load_segmenter(source, device="cpu")
        np.testing.assert_allclose(loaded.predict(support, mask, support).probability, expected, atol=1e-6)


def test_loaded_from_an_object_store(predictor: Predictor, output_dir: Path, s3: str) -> None:
    from fss.core import storage

    for file in (output_dir / "models" / "masksplit-0" / "model").iterdir():
        storage.write_atomically(*storage.resolve(f"{s3}/models/m/{file.name}"), file.read_bytes())
    assert fss.load_segmenter(f"{s3}/models/m", device="cpu").size == 96


def test_loaded_from_mlflow_by_uri_name_and_alias(
    output_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from fss.inference.mlflow_model import log_model
    from fss.tracking.lifetime import end_on_exit
    from fss.tracking.run import Run

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with end_on_exit(Run.start("train")) as run:
        uri = log_model(run, output_dir / "models" / "masksplit-0" / "model")
    client = MlflowClient(tracking_uri=run.uri, registry_uri=run.uri)
    client.create_registered_model("birds")
    client.create_model_version("birds", uri, run.run_id)
    client.set_registered_model_alias("birds", "best", "1")
    for source in (uri, "birds", "birds@best", "models:/birds/1"):
        assert fss.load_segmenter(source, device="cpu").size == 96
    with pytest.raises(ValueError, match="neither a folder 'cats' nor a registered model"):
        fss.load_segmenter("cats")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow has set it
    with pytest.raises(
        ValueError, match=r"neither a folder 'birds' .* no MLflow store .*elsewhere/mlflow\.db; run this in"
    ):
        fss.load_segmenter("birds")
    assert not list(elsewhere.iterdir()), "a store that was only asked is not created"


def test_several_checkpoints_or_none_are_reported(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no checkpoint"):
        fss.load_segmenter(tmp_path)
    with pytest.raises(ValueError, match=r"there is no folder .*/none; give the folder of a checkpoint or of a job"):
        fss.load_segmenter(tmp_path / "none")
    for name in ("a", "b"):
        save_checkpoint(predictor.segmenter, tmp_path / name / "model")
    with pytest.raises(ValueError, match="holds 2 checkpoints; name one of them"):
        fss.load_segmenter(tmp_path)


def test_the_model_of_a_job_is_found_in_an_object_store(predictor: Predictor, tmp_path: Path, s3: str) -> None:
    save_checkpoint(predictor.segmenter, tmp_path)
    with pytest.raises(ValueError, match="is no checkpoint"):
        fss.load_segmenter(f"{s3}/work")
    for name, model in (("a", f"{s3}/work"), ("b", f"{s3}/work/models/b")):
        for file in tmp_path.iterdir():
            uri = f"{s3}/work/models/{name}/model/{file.name}"
            storage.write_atomically(*storage.resolve(uri), file.read_bytes())
        assert fss.load_segmenter(model, device="cpu").size == predictor.size
    with pytest.raises(ValueError, match="holds 2 checkpoints; name one of them"):
        fss.load_segmenter(f"{s3}/work")


def test_import_is_light() -> None:
    code = "import fss, sys; print([m for m in ('torch', 'numpy', 'pyarrow') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    with pytest.raises(AttributeError):
        _ = fss.nothing


def test_pil_pictures_are_taken(predictor: Predictor) -> None:
    rgb, mask = picture(64, 64)
    prediction = predictor.predict(Image.fromarray(rgb), Image.fromarray(mask * 255), Image.fromarray(rgb))
    np.testing.assert_array_equal(prediction.mask, predictor.predict(rgb, mask, rgb).mask)
