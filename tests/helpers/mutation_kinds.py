"""What the benchmark of mutations damages: each kind draws a mutation, and returns the verdicts on it by column."""

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from fss.collection import Collection, ingest_local
from fss.collection.mask_export import iterate_masks
from fss.collection.sources import SourceConfig, list_items, read_item
from fss.collection.upgrade import refresh_manifests
from fss.collection.verify import find_problems
from fss.images.limits import DecodeLimits
from fss.images.mask_codec import decode_mask
from fss.inference.mlflow_model import COLUMNS, example_request, segment_request
from fss.inference.model_card import model_card
from fss.inference.predictor import load_segmenter
from fss.models import FewShotSegmenter, SegmenterConfig, save_checkpoint
from fss.models.saliency.config import StudentConfig
from fss.models.saliency.network import SaliencyStudent, load_student, save_student
from fss.models.semantic.checkpoint import load_semantic, save_semantic
from fss.models.semantic.config import SemanticConfig
from fss.models.semantic.network import build_semantic
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.training.few_shot.loop import TrainLoop
from pipelines.runtime.train_worker import restore, write_state
from pipelines.runtime.validation import check_collection
from pipelines.training.config import TrainJobConfig
from pipelines.training.data import TrainingData
from tests.helpers.bad_files.formats import encoded
from tests.helpers.coco_documents import an_object, document, write_document
from tests.helpers.coco_fuzzing import change_value
from tests.helpers.dataset_layouts import PALETTE, write_bytes
from tests.helpers.discs import noisy_collection
from tests.helpers.fuzzing import damage
from tests.helpers.mutations import HARMLESS, Verdict, copied, judge, mutate_folder

Trial = tuple[str, dict[str, Verdict]]
"""What was done, and the verdicts by column."""
Kind = Callable[[np.random.Generator, int], Trial]
"""Takes the draws and the number of the trial."""
LIMITS = DecodeLimits(max_pixels=1_000_000, max_side=4000)
TINY = SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=64, width=32, seed=0)
HEIGHT, WIDTH = 40, 48


def model_folders(work: Path) -> Kind:
    """Return the kind of model folders: a model is loaded and segments a picture."""
    save_checkpoint(FewShotSegmenter.from_config(TINY), work / "base", extra={"training": {"step": 7}})
    request = {column: values[0] for column, values in example_request().items()}

    def use(folder: Path) -> Any:
        predictor = load_segmenter(folder, device="cpu")
        segmenter = predictor.segmenter
        answer = segment_request(predictor, request)
        return answer, segmenter.config, segmenter.calibration, _digest(segmenter.state_dict())

    expected = use(work / "base")

    def trial(rng: np.random.Generator, number: int) -> Trial:
        folder = copied(work / "base", work / "model")
        done = mutate_folder(folder, rng)
        return done, {"loading": judge(lambda: use(folder), expected)}

    return trial


def checkpoints(work: Path) -> Kind:
    """Return the kind of checkpoints: of trainings, which resume, of students and of semantic networks."""
    loop = _loop(trained=True)
    write_state(work / "training", loop, {"step": 1, "run_id": "a" * 32})
    save_checkpoint(FewShotSegmenter.from_config(TINY), work / "training" / "model")
    student = SaliencyStudent(StudentConfig(backbone="timm:test_resnet.r160_in1k", image_size=64, width=16))
    (work / "student").mkdir()
    save_student(student, work / "student" / "student.safetensors", metadata={"collection": "0" * 16})
    semantic = build_semantic(SemanticConfig(network="lraspp", backbone="mobilenet_v2", stride=16), classes=3)
    save_semantic(semantic, work / "semantic", class_ids=[1, 2, 7])

    def resumed(folder: Path) -> Any:
        loop = _loop()
        restore(loop, folder, model="model")
        return _digest(loop.state_dict())

    def loaded_student(folder: Path) -> Any:
        student = load_student(folder / "student.safetensors")
        return _digest(student.state_dict()), student.config

    def loaded_semantic(folder: Path) -> Any:
        network, description = load_semantic(folder)
        return _digest(network.state_dict()), network.config, description["class_ids"]

    uses = {"training": resumed, "student": loaded_student, "semantic": loaded_semantic}
    expected = {name: use(work / name) for name, use in uses.items()}

    def trial(rng: np.random.Generator, number: int) -> Trial:
        name = ("training", "training", "student", "semantic")[number % 4]
        folder = copied(work / name, work / "copy")
        done = mutate_folder(folder, rng)
        return f"{name}: {done}", {"loading": judge(lambda: uses[name](folder), expected[name])}

    return trial


def _loop(*, trained: bool = False) -> TrainLoop:
    stream: Any = SimpleNamespace(steps_per_epoch=4, image_size=64)
    loop = TrainLoop(FewShotSegmenter.from_config(TINY), stream, OptimizerConfig(steps=8))
    if trained:
        for parameter in loop.parameters:
            parameter.grad = torch.full_like(parameter, 0.5)
        loop.optimizer.step()
        loop.updated()
        loop.step = 1
    return loop


def _digest(state: Any) -> Any:
    """Return a nested state as values that can be compared."""
    if isinstance(state, torch.Tensor):
        return state.detach().numpy().tobytes(), tuple(state.shape), str(state.dtype)
    if isinstance(state, dict):
        return {key: _digest(value) for key, value in state.items()}
    return [_digest(each) for each in state] if isinstance(state, list | tuple) else state


def collections(work: Path) -> Kind:
    """Return the kind of collections: ``fss inspect --verify`` must notice all, trainings what changes their result."""
    for name in ("fresh", "compacted"):
        collection, masks = noisy_collection(work / name, 24)
        masks.write_acceptance("default", {"quantile": 0.5}, [*chain(*collection.image_ids().values())][:20])
        if name == "compacted":
            refresh_manifests(collection)
            refresh_manifests_of(masks)

    def verified(folder: Path) -> None:
        problems = list(find_problems(Collection.open(str(folder))))
        if problems:
            raise ValueError(problems[0])

    def train(folder: Path) -> Any:
        check_collection(str(folder))
        config = TrainJobConfig(
            collection=str(folder),
            output=str(work / "models"),
            mask_set="saliency",
            acceptance="default",
            segmenter=TINY,
            stream=StreamConfig(batch_size=4, lanes=2, held_out=0.2),
        )
        data = TrainingData.open(config)
        hashes = {name: value for name, value in data.hashes().items() if name != "collection"}
        batches = [[batch.query, batch.query_masks, batch.support_masks] for batch in data.stream().batches(0)]
        collection = data.sources[0].masks.collection
        return hashes, data.counts(), _digest(batches), collection.classes, collection.class_splits

    expected = {name: train(work / name) for name in ("fresh", "compacted")}

    def trial(rng: np.random.Generator, number: int) -> Trial:
        name = ("fresh", "compacted")[number % 2]
        folder = copied(work / name, work / "copy")
        done = mutate_folder(folder, rng)
        verdicts = {"--verify": judge(lambda: verified(folder), "a word"), "training": Verdict(outcome=HARMLESS)}
        verdicts["training"] = judge(lambda: train(folder), expected[name])
        return f"{name}: {done}", verdicts

    return trial


def refresh_manifests_of(masks: Any) -> None:
    """Compact the manifest of a mask set."""
    masks.parts.refresh()


def label_files(work: Path) -> Kind:
    """Return the kind of label files: every photograph gets a mask or a reason, or one line refuses the file.

    A damaged file may still be a valid one with other labels, which no reader can know.
    """
    sources = dict(_write_labels(work))
    patterns = {"coco": "*.json", "labelme": "*.json", "masks": "*.png", "csv": "*.csv", "voc": "*.mat"}

    def use(config: SourceConfig, *, whole: bool) -> None:
        listing = list_items(config)
        assert listing.hash() and "".join([*listing.notes, *listing.warnings, *listing.unmatched]).isprintable()
        for item in listing.items:
            raw = read_item(item, config, LIMITS)
            assert (raw.label is None) != (raw.mask_error is None), "neither mask nor reason"
            assert raw.mask_error is None or (raw.mask_error.isprintable() and len(raw.mask_error) < 1000)
        if whole:
            ingest_local(config, str(work / "collection"), limits=LIMITS, overwrite=True)

    def trial(rng: np.random.Generator, number: int) -> Trial:
        name = list(sources)[number % len(sources)]
        folder = copied(work / name, work / "copy")
        done = mutate_folder(folder, rng, pattern=patterns[name])
        config = SourceConfig(**{**sources[name], "path": str(folder)})
        return f"{name}: {done}", {"reading": judge(lambda: use(config, whole=number % 4 == 0), None)}

    return trial


def _write_labels(work: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    jpeg = encoded("JPEG", Image.new("RGB", (WIDTH, HEIGHT)))
    ring = [[5, 5, 40, 5, 40, 30, 5, 30]]
    pictures = [
        {"id": n, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH} for n, name in enumerate("abc", 1)
    ]
    for name in "abc":
        write_bytes(work / "coco" / "val2014" / f"{name}.jpg", jpeg)
        write_bytes(work / "labelme" / f"{name}.jpg", jpeg)
        shape = {"label": name, "points": [[5, 5], [40, 5], [40, 30]], "shape_type": "polygon", "flags": {}}
        entry: dict[str, Any] = {"shapes": [shape], "imagePath": f"{name}.jpg", "imageData": None, "version": "5.5.0"}
        entry |= {"imageHeight": HEIGHT, "imageWidth": WIDTH}
        write_bytes(work / "labelme" / f"{name}.json", json.dumps(entry).encode())
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[5:30, 5:30] = 1 + "abc".index(name)
        for folder in ("masks", "csv"):
            write_bytes(work / folder / "images" / f"{name}.jpg", jpeg)
            picture = Image.fromarray(mask * (255 if folder == "masks" else 1))
            write_bytes(
                work / folder / "masks" / f"{name}.png",
                encoded("PNG", picture.point(lambda v: 255 * (v > 0)) if folder == "masks" else picture),
            )
        write_bytes(work / "voc" / "JPEGImages" / f"{name}.jpg", jpeg)
        indexed = Image.fromarray(mask)
        indexed.putpalette(PALETTE)
        for labels in ("SegmentationClass", "SegmentationClassAug"):
            if labels == "SegmentationClass" and name == "a":
                write_bytes(work / "voc" / labels / f"{name}.png", encoded("PNG", indexed))
        path = work / "voc" / "benchmark_RELEASE" / "dataset" / "cls" / f"{name}.mat"
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"GTcls": {"Segmentation": mask, "CategoriesPresent": np.unique(mask[mask > 0])}})
    write_document(work / "coco", document([an_object(ring, n, 1, id=n) for n in (1, 2, 3)], pictures))
    write_bytes(work / "csv" / "classes.csv", b"id,name\n1,cup\n2,pot\n3,jug\n")
    lists = work / "voc" / "ImageSets" / "Segmentation"
    write_bytes(lists / "train.txt", b"a\n")
    write_bytes(lists / "val.txt", b"")
    write_bytes(lists / "trainaug.txt", b"a\nb\nc\n")
    yield "coco", {"kind": "coco", "subset": "val2014"}
    yield "labelme", {"kind": "labelme"}
    yield "masks", {"kind": "folder"}
    yield "csv", {"kind": "folder", "masks": "index"}
    yield "voc", {"kind": "voc", "subset": "trainaug"}


def requests(work: Path) -> Kind:
    """Return the kind of requests to a served model: an answer of the query's size, or one line."""
    save_checkpoint(FewShotSegmenter.from_config(TINY), work / "model")
    predictor = load_segmenter(work / "model", device="cpu")
    bytes_request = {column: values[0] for column, values in example_request().items()}
    picture = np.full((24, 32, 3), 90, np.uint8)
    picture[6:18, 8:24] = 200
    mask = (picture[..., 0] > 100).astype(np.uint8)
    arrays = {"query": picture.tolist(), "support_images": [picture.tolist()], "support_masks": [mask.tolist()]}
    prompts = {**arrays, "support_masks": [{"points": [[16, 12]], "not_points": [[1, 1]]}]}
    boxes = {**arrays, "support_masks": [[8, 6, 24, 18]]}

    def use(request: dict[str, Any]) -> None:
        decode_mask(segment_request(predictor, request))

    def trial(rng: np.random.Generator, number: int) -> Trial:
        kind = number % 5
        if kind == 0:
            column = COLUMNS[int(rng.integers(3))]
            value = bytes_request[column]
            changed = damage(value, rng) if isinstance(value, bytes) else [damage(value[0], rng)]
            request, done = {**bytes_request, column: changed}, f"bytes of {column}"
        else:
            request, done = (arrays, prompts, boxes, arrays)[kind - 1], "values"
            for _ in range(int(rng.integers(1, 4))):
                request = _changed_request(request, rng)
            done = f"values of {', '.join(sorted(request))}"
        # MLflow's signature requires the columns, so a request without one never reaches the model.
        whole = {column: request.get(column) for column in COLUMNS}
        return done, {"answer": judge(lambda: use(whole), None)}

    return trial


def _changed_request(request: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Change one value of a request: a whole column, one support, one row or one number."""
    column = COLUMNS[int(rng.integers(3))]
    value, how = request.get(column), int(rng.integers(6))
    if how == 0:
        changed: Any = change_value({"a": value}, rng)
        return {**request, column: changed.get("a")}
    if how == 1 and column != "query" and isinstance(value, list):  # supports without masks, and the reverse
        return {**request, column: value * int(rng.integers(0, 40))}
    if how == 2:
        doubled = {name: each * 2 for name, each in request.items() if name != "query" and isinstance(each, list)}
        return {**request, **doubled}
    inner = {"a": value}
    target: Any = inner
    for _ in range(int(rng.integers(1, 5))):  # down to a row, a pixel or a channel
        keys = list(target) if isinstance(target, dict) else range(len(target))
        key = list(keys)[int(rng.integers(len(keys)))]
        if not isinstance(target[key], dict | list) or not target[key]:
            break
        target[key] = target[key].copy()
        target = target[key]
    keys = list(target) if isinstance(target, dict) else list(range(len(target)))
    key = keys[int(rng.integers(len(keys)))]
    odd = _ODD_VALUES[int(rng.integers(len(_ODD_VALUES)))]
    target[key] = odd if how < 5 else target[keys[0]]
    return {**request, column: inner["a"]}


_ODD_VALUES: tuple[Any, ...] = (
    *(0, 1, 7, 255, 256, -1, 1.5, True, None, float("nan"), float("inf"), 10**30, "7", "", [], [1], {}, "\ud800"),
)
ODD_NAMES = (
    *("naïve Füße", "日本語の写真", "e\u0301 decomposed", "\u202egnp.exe", "emoji 🦊🚲", "\u200bzero width"),
    *("new\nline", "carriage\rreturn", "tab\tbed", "bell\x07", "escape\x1b[31mred\x1b[0m", "--help", "-rf", "-"),
    *("..", "...", "..\\..\\evil", "..%2f..%2fevil", "~", "$HOME", "`id`", "$(id)", "a;b", "a|b", "a&b", "*?[x]"),
    *('quo"te', "quo'te", "'\"'", "<script>alert(1)</script>", "<b>bold</b>", "&amp;", "[link](http://x)", "# head"),
    *("**bold** | cell |", "```fence", "{{ template }}", "%s %d %n", "{0}", "CON", "nul.txt", " lead", "trail ", "."),
    os.fsdecode(b"byte\xff"),
    "[/b] markup",
    *("x" * 240, "é" * 120, "100%", "a%20b", "#fragment", "?query=1", "a:b", "a,b", "a=b", "0", "null", "true", "NaN"),
)
"""Names of files, folders and classes."""


def odd_names(work: Path) -> Kind:
    """Return the kind of odd names, as files, folders (and so classes), classes of COCO, and collections."""
    jpeg = encoded("JPEG", Image.effect_noise((WIDTH, HEIGHT), 60).convert("RGB"))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:30, 5:30] = 255
    png = encoded("PNG", Image.fromarray(mask))

    def use(role: str, name: str, folder: Path) -> str:
        if role == "collection":
            write_bytes(folder / "source" / "a.jpg", jpeg)
            config, target = SourceConfig(path=str(folder / "source")), folder / name
        else:
            config, target = _write_named(role, name, folder / "source", jpeg, png), folder / "collection"
        collection = ingest_local(config, str(target), keep_bytes=role != "file")
        assert collection.image_ids() and collection.quarantine().num_rows == 0, collection.quarantine().to_pylist()
        _check_shown(collection)
        if role == "classes":
            return str([*collection.classes.values()])
        return ""

    def trial(rng: np.random.Generator, number: int) -> Trial:
        role = ("file", "folder", "classes", "collection")[number % 4]
        names = [name for name in ODD_NAMES if role == "classes" or name not in (".", "..")]
        name = names[(number // 4) % len(names)]
        folder = work / f"names-{number}"
        return f"{role} {name!r:.60}", {"ingest": judge(lambda: bool(use(role, name, folder)), role == "classes")}

    return trial


def _write_named(role: str, name: str, source: Path, jpeg: bytes, png: bytes) -> SourceConfig:
    if role == "classes":
        pictures = [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}]
        objects = [an_object([[5, 5, 40, 5, 40, 30]], 1, 1, id=1)]
        write_document(source, document(objects, pictures, [{"id": 1, "name": name}]))
        write_bytes(source / "val2014" / "a.jpg", jpeg)
        return SourceConfig(kind="coco", path=str(source), subset="val2014")
    if role == "folder":
        for number in (1, 2):
            write_bytes(source / name / f"{number}.jpg", jpeg + bytes([number]))
            write_bytes(source / name / f"{number}.png", png)
        return SourceConfig(kind="fss1000", path=str(source))
    write_bytes(source / f"{name[:240]}.jpg" if len(name.encode()) < 250 else source / f"{name[:120]}.jpg", jpeg)
    return SourceConfig(path=str(source))


def _check_shown(collection: Collection) -> None:
    """Describe a collection and export its masks: nothing leaves the folder, and a terminal gets no codes."""
    from fss.cli import inspect as command

    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        command.run(command.Config(collection=collection.uri, verify=True))
    control = {character for character in shown.getvalue() if not character.isprintable() and character != "\n"}
    assert not control, f"control characters {control} on the screen"
    assert "wrong" not in shown.getvalue(), shown.getvalue()
    for name in collection.mask_set_names():
        for exported in iterate_masks(collection.mask_set(name)):
            assert "/" not in exported.name and exported.name.isascii() and not exported.name.startswith("-")
    description = {"segmenter": {"image_size": 64}, "data": {"classes": [*collection.classes.values()]}}
    card = model_card("hf://a/b", description, {})
    assert "<script" not in card.replace("\\<", ""), "HTML in a card"


KINDS: dict[str, Callable[[Path], Kind]] = {
    "model folders": model_folders,
    "checkpoints": checkpoints,
    "collections": collections,
    "label files": label_files,
    "served requests": requests,
    "odd names": odd_names,
}
