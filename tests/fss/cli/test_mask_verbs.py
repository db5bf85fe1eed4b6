"""Verbs that make masks of pictures: predict and saliency."""

import csv
import re
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fss.cli import main
from fss.cli._make_masks import find_pictures
from fss.cli._support_text import parse_support
from fss.collection.config import SourceConfig
from fss.collection.sources import list_items
from fss.core import storage
from fss.inference.predictor import load_segmenter
from fss.inference.prompts import Prompt
from fss.models import create_segmenter, save_checkpoint
from tests.helpers.bad_files.formats import encoded, picture


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    segmenter = create_segmenter(backbone="timm:test_resnet.r160_in1k", image_size=96, width=32)
    return save_checkpoint(segmenter, tmp_path_factory.mktemp("model"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(encoded("JPEG", picture((80, 60))))
    (folder / "a.png").write_bytes(encoded("PNG", picture((70, 60))))
    (folder / "deeper" / "größe.webp").write_bytes(encoded("WEBP", picture((64, 90))))
    (folder / "note.txt").write_text("no picture")
    (folder / "empty").mkdir()
    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 20:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return folder


def ends(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main.main([str(word) for word in words])
    return int(end.value.code or 0)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "masks.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_predict_writes_a_mask_of_each_pictures_size(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["predict", "--model", model, "--query", photos, "--output", out, "--probabilities"]
    first, second = f"{photos}/a.jpg:{tmp_path}/mask.png", f"{photos}/a.png:10,10,50,40"
    assert ends(*words, "--support", first, second) == 0
    together = (out / "a.jpg.png").read_bytes()
    assert ends(*words, "--support", first, "--support", second) == 0
    assert (out / "a.jpg.png").read_bytes() == together, "examples may be given one by one, too"
    sizes = {"a.jpg": (80, 60), "a.png": (70, 60), "deeper/größe": (64, 90)}
    for name, size in sizes.items():
        mask = Image.open(out / f"{name}.png")
        assert (mask.size, mask.mode) == (size, "L")
        assert set(np.unique(mask)) <= {0, 255}
        soft = np.asarray(Image.open(out / "soft" / f"{name}.png"))
        marked = np.asarray(mask) > 0
        assert marked[soft > 128].all() and not marked[soft < 128].any()
        assert Image.open(out / "overlays" / f"{name}.jpg").size == size
    assert Image.open(out / "examples.jpg").width > 600
    assert sorted(row["mask"] for row in rows(out)) == sorted(f"{name}.png" for name in sizes)


def test_predict_without_a_model_needs_no_training(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = create_segmenter(learner="density", backbone="mobilenet_v2").backbone
    state = {key: value.contiguous() for key, value in backbone.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    words = ["predict", "--support", f"{photos}/a.jpg:{tmp_path}/mask.png", "--query", f"{photos}/a.jpg"]
    weights = ["--backbone-weights", tmp_path / "weights.safetensors"]
    assert ends(*words, *weights, "--output", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith(
        "no --model is given: the segmenter is density, which needs no training, on MobileNetV2 (/"
    )
    assert Image.open(tmp_path / "out" / "a.png").size == (80, 60)
    assert ends(*words, *weights, "--model", "m", "--output", tmp_path / "out") == 2
    assert "contains its own weights; leave out --backbone-weights" in capsys.readouterr().err
    monkeypatch.setattr(
        "torch.hub.load_state_dict_from_url", lambda *_, **__: (_ for _ in ()).throw(URLError("offline"))
    )
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", torch.hub.load_state_dict_from_url)
    assert ends(*words, "--output", tmp_path / "out") == 2
    assert "cannot be downloaded" in capsys.readouterr().err


def test_an_unusable_picture_is_listed_and_the_others_are_made(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    support = f"{photos}/a.jpg:{tmp_path}/mask.png"
    words = ["predict", "--model", model, "--support", support, "--query", photos, "--batch-size", 3]
    assert ends(*words, "--output", tmp_path / "out") == 3
    shown = capsys.readouterr().out
    assert "3 of 4 segmented" in shown and "not found" not in shown
    assert re.search(r"confidence +│ expected IoU 0\.\d\d in the median; \d below", shown)
    assert f"look at {tmp_path}/out/overlays" in shown and "examples too (--support)" in shown
    assert ends(*words, "--output", tmp_path / "out", "--presence-threshold", 1) == 3
    assert "the object in 3 of them; their masks are empty" in capsys.readouterr().out
    errors = {Path(row["picture"]).name: row["error"] for row in rows(tmp_path / "out")}
    assert errors["broken.jpg"].startswith("corrupt")
    assert not errors["a.jpg"]
    assert Image.open(tmp_path / "out" / "a.png.png").size == (70, 60), "each mask of a batch is that of its picture"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--query", "{photos}"], "give at least one example"),
        (["--support", "a.jpg", "--query", "{photos}"], "an example must be PICTURE:MASK"),
        (["--support", "{photos}/a.jpg:9,9,9", "--query", "{photos}"], "'9,9,9' is no mask, and neither a box of four"),
        (["--support", "{photos}/a.jpg:@90,9", "--query", "{photos}"], "x, y in a picture of 80 x 60 pixels"),
        (["--support", "{photos}/a.jpg:-@9,9", "--query", "{photos}"], "must have a box, a point or a stroke on the"),
        (["--support", "{photos}/a.jpg:{photos}/a.jpg", "--query", "{photos}"], "colours"),
        (["--support", "{photos}/a.jpg:0,0,9,9", "--query", "{photos}/none"], "there is no folder"),
        (["--support", "{photos}/a.jpg:0,0,9,9", "--query", "{photos}/empty"], "give pictures (JPEG, PNG, WebP"),
        (["--support", "{photos}/a.jpg:0,0,9,9", "--query", "{photos}", "--output", "{photos}"], "into another folder"),
        (
            ["--support", "a.jpg:0,0,9,9", "--query", "a.jpg", "--output", "new/m.json"],
            "is named like a file, but a fol",
        ),
        (
            ["--support", "a.jpg:0,0,9,9", "--query", "{photos}", "--output", "{photos}/note.txt/new"],
            "note.txt is a file; give another folder",
        ),
        (["--support", "a.jpg:0,0,9,9", "--query", "{photos}", "--output", "s3:/b/x"], "two slashes follow a scheme"),
        (
            ["--support", "{photos}/a.jpg:9,9,30,30", "{photos}/a.png:@99,9", "--query", "{photos}"],
            "support 2 ({photos}/a.png): the point [99.0, 9.0] must be x, y",
        ),
        (
            ["--support", "{photos}/a.jpg:9,9,30,30", "--not", "{photos}/a.png:0.1,0.1,1,0.5", "--query", "{photos}"],
            "negative example 1 ({photos}/a.png): the box [0.1, 0.1, 1.0, 0.5] is at most one pixel of a picture",
        ),
        (["--support", "a.jpg:0,0,9,9", "--query", "{photos}", "--device", "mps"], "there is no device mps"),
        (
            ["--support", "a.jpg:@9,9", "--query", "{photos}", "--boxes", "filled"],
            "--boxes filled is for examples with a box, but there is none",
        ),
    ],
)
def test_mistakes_are_reported_in_one_line(
    model: Path, photos: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(model), "--output", f"{photos}/out", *(word.format(photos=photos) for word in words)]
    assert ends("predict", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(photos=photos) in line


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("a.jpg:a.png", ("a.jpg", "a.png")),
        ("a.jpg:2024+1.png", ("a.jpg", "2024+1.png")),
        ("a.jpg:1,2.5,30,40", ("a.jpg", Prompt(boxes=[(1, 2.5, 30, 40)]))),
        ("s3://b/a.jpg:s3://b/a.png", ("s3://b/a.jpg", "s3://b/a.png")),
        ("s3://b/a.jpg:1,2,3,4", ("s3://b/a.jpg", Prompt(boxes=[(1, 2, 3, 4)]))),
        ("a.jpg:-1,2,3,4+5,6,7,8;9,10,11,12", ("a.jpg", Prompt(boxes=[(-1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12)]))),
        ("a.jpg:@1,2+@3.5,4-@5,6", ("a.jpg", Prompt(points=[(1, 2), (3.5, 4)], not_points=[(5, 6)]))),
        ("a.jpg:1,2,3,4+@2,3-@1,2", ("a.jpg", Prompt(boxes=[(1, 2, 3, 4)], points=[(2, 3)], not_points=[(1, 2)]))),
        ("a.jpg:@s-1.png-@o+2.png", ("a.jpg", Prompt(strokes="s-1.png", not_strokes="o+2.png"))),
        ("a.jpg:@s3://b/s.png", ("a.jpg", Prompt(strokes="s3://b/s.png"))),
    ],
)
def test_examples_on_the_command_line(text: str, pair: tuple[str, object]) -> None:
    assert parse_support(text) == pair


@pytest.mark.parametrize("text", ["a.jpg", "s3://b/a.jpg", "a.jpg:1,2,3", "a.jpg:@", "a.jpg:1,2,3,4+", "a.jpg:@1,2,3"])
def test_other_words_say_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match=r"PICTURE:LEFT,TOP,RIGHT,BOTTOM \(a box\), PICTURE:@X,Y \(a point"):
        parse_support(text)


def test_predict_makes_masks_of_prompts_and_leaves_out_negatives(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "--model", model, "--query", f"{photos}/a.jpg", "--no-overlays"]
    support = ["--support", f"{photos}/a.jpg:{tmp_path}/mask.png"]
    assert ends(*words, *support, "--output", tmp_path / "one") == 0
    assert ends(*words, *support, "--not", *support[1:], "--output", tmp_path / "none") == 0
    assert not np.asarray(Image.open(tmp_path / "none" / "a.png")).any(), "nothing exceeds itself"
    capsys.readouterr()
    assert ends(*words, *support, "--not", *support[1:], "--scales", "tiles", "--output", tmp_path / "tiles") == 0
    assert not np.asarray(Image.open(tmp_path / "tiles" / "a.png")).any()
    assert "10.0 a picture; 1 of 1 were seen in tiles too" in capsys.readouterr().out
    assert [row["passes"] for row in rows(tmp_path / "tiles")] == ["10"]
    assert ends(*words, *support, "--flip", "--output", tmp_path / "flipped") == 0
    assert "2.0 a picture; 0 of 1 were seen in tiles too" in capsys.readouterr().out
    Image.new("RGB", (200, 100), "white").save(tmp_path / "plain.png")
    assert ends(*words, "--support", f"{tmp_path}/plain.png:50,30,90,70", "--output", tmp_path / "box") == 0
    assert capsys.readouterr().err.count("no object stands out in the box 50,30,90,70") == 1
    assert (
        ends(
            *words, "--support", f"{tmp_path}/plain.png:50,30,90,70", "--boxes", "filled", "--output", tmp_path / "box"
        )
        == 0
    )
    assert "stands out" not in capsys.readouterr().err


def test_masks_in_the_folder_of_the_pictures_are_not_segmented_again(photos: Path) -> None:
    before = find_pictures([str(photos)], str(photos / "masks"))
    (photos / "masks").mkdir()
    (photos / "masks" / "a.png").write_bytes(encoded("PNG"))
    assert find_pictures([str(photos)], str(photos / "masks")) == before
    single = find_pictures([str(photos / "a.jpg")], "out")
    assert [(picture.name, picture.uri) for picture in single] == [("a", str(photos / "a.jpg"))]


@pytest.mark.parametrize(
    ("query", "out", "reason"),
    [
        ("photos", "link", "photos is a folder of pictures"),
        ("photos", "photos/../photos", "photos is a folder of pictures"),
        ("link", "photos", "link is a folder of pictures"),
        ("photos/b.png", "link", "b.png lies in the folder of the masks"),
        ("link/deeper", "photos", "deeper lies in the folder of the masks"),
    ],
)
def test_masks_never_replace_pictures(photos: Path, tmp_path: Path, query: str, out: str, reason: str) -> None:
    (photos / "b.png").write_bytes(encoded("PNG"))
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(ValueError, match=reason):
        find_pictures([str(tmp_path / query)], str(tmp_path / out))


@pytest.mark.parametrize("mask", ["deeper/größe.png", "overlays/deeper/größe.jpg", "examples.jpg"])
def test_masks_never_replace_an_example(photos: Path, tmp_path: Path, mask: str) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "masks")
    with pytest.raises(ValueError, match=f"the example .*{mask} would be replaced"):
        find_pictures([str(photos)], str(tmp_path / "link"), examples=[str(tmp_path / "masks" / mask)])
    others = [str(tmp_path / "masks/other.png"), str(tmp_path / mask)]
    assert find_pictures([str(photos)], str(tmp_path / "link"), examples=others)


def test_masks_below_a_link_to_the_pictures_are_not_segmented_again(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    (photos / "masks").mkdir()
    (photos / "masks" / "a.png").write_bytes(encoded("PNG"))
    assert len(find_pictures([str(photos)], str(tmp_path / "link" / "masks"))) == 3


def test_links_out_of_a_folder_of_pictures_are_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links/c.jpg").symlink_to(photos / "a.jpg")
    (tmp_path / "links/gone.jpg").symlink_to(photos / "gone.jpg")
    assert len(find_pictures([f"{tmp_path}/links", str(photos)], f"{tmp_path}/out")) == 3
    (line,) = capsys.readouterr().err.splitlines()
    reasons = "1 links out of the folder, 1 links without a target"
    assert line == f"{tmp_path}/links: left out are {reasons}; name what they lead to as well"


def test_pictures_of_formats_that_are_not_read_are_told(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "IMG_1.CR2").write_bytes(encoded("TIFF"))  # a raw file is a TIFF, whose first picture is a preview
    assert len(find_pictures([str(photos)], "out")) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{photos}: left out are 1 pictures of other formats, such as camera raw; convert them to")
    listing = list_items(SourceConfig(path=str(photos)))
    assert len(listing.items) == 3 and listing.ignored == {"pictures of other formats": 1, "other files": 1}
    assert "have a format that is not read, such as camera raw or JPEG XL; convert them" in listing.notes[-1]


def test_pictures_have_names_of_their_own(photos: Path) -> None:
    (photos / "a.jpg.png").write_bytes(encoded("PNG"))
    (photos / "b.jpg").write_bytes(encoded("JPEG"))
    (photos / "soft").mkdir()
    names = ["a.jpg", "a.jpg.png", "a.png", "b", "deeper/größe"]
    assert [picture.name for picture in find_pictures([str(photos)], "out", soft=True)] == names
    (photos / "soft" / "b.webp").write_bytes(encoded("WEBP"))
    assert "soft/b" in {picture.name for picture in find_pictures([str(photos)], "out")}
    with pytest.raises(
        ValueError, match=r"soft/b\.png would be the mask of one picture and the probabilities of anoth"
    ):
        find_pictures([str(photos)], "out", soft=True)


def test_masks_that_an_earlier_run_has_left_are_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["saliency", photos, "--output", tmp_path / "out"]
    assert ends(*words) == 0
    (photos / "a.jpg").write_bytes(b"")
    (photos / "deeper" / "größe.webp").unlink()
    assert "from before" not in capsys.readouterr().out
    assert ends(*words) == 3
    told = " ".join(capsys.readouterr().out.split())
    assert "2 masks of an earlier run are still there, which masks.csv does not list" in told


def test_saliency_of_a_folder(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("saliency", photos, "--output", tmp_path / "out", "--soft", "--no-overlays") == 0
    assert len(list((tmp_path / "out").rglob("*.png"))) == 6
    assert not (tmp_path / "out" / "overlays").exists()
    assert {"share", "agreement", "gate_area"} <= set(rows(tmp_path / "out")[0])
    assert "Where the agreement in masks.csv is low (0..1), the mask is often wrong" in capsys.readouterr().out


def test_settings_of_the_cues_beside_a_student_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        ends("saliency", "photos", "--output", "o", "--student", "s.safetensors", "--saliency.working-pixels", "9") == 2
    )
    assert "--saliency.* are settings of the classical cues, but --student is given" in capsys.readouterr().err


def test_saliency_from_and_to_an_object_store(s3: str, tmp_path: Path) -> None:
    storage.write_atomically(*storage.resolve(f"{s3}/raw/a.jpg"), encoded("JPEG", picture((80, 60))))
    assert ends("saliency", f"{s3}/raw", "--output", f"{s3}/masks") == 0
    assert storage.list_names(*storage.resolve(f"{s3}/masks")) == ["a.png", "masks.csv", "overlays"]


@pytest.mark.parametrize(
    ("error", "names", "code", "told"),
    [
        ("AWS Error ACCESS_DENIED", ["a", "b", "c"], 2, "are listed but must not be read: AWS Error ACCESS_DENIED"),
        ("AWS Error ACCESS_DENIED", ["a"], 3, None),  # one of them is unusable
        ("AWS Error NETWORK_CONNECTION", ["b"], 1, "the object store failed: AWS Error NETWORK_CONNECTION"),
    ],
)
def test_an_object_store_that_refuses_pictures_is_told_once(
    error: str,
    names: list[str],
    code: int,
    told: str | None,
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in "abc":
        storage.write_atomically(*storage.resolve(f"{s3}/photos/{name}.png"), encoded("PNG", picture((40, 30))))
    read = storage.read_bytes

    def refuse(uri: str, limit: int | None = None) -> bytes:
        if any(uri.endswith(f"/{name}.png") for name in names):
            raise OSError(f"{error} during GetObject operation")
        return read(uri, limit)

    monkeypatch.setattr(storage, "read_bytes", refuse)
    assert ends("saliency", f"{s3}/photos", "--output", tmp_path / "out") == code
    errors = capsys.readouterr().err.splitlines()
    assert errors == [] if told is None else len(errors) == 1 and told in errors[0]


@pytest.mark.parametrize("what", ["pictures", "model"])
def test_an_object_store_that_does_not_answer_is_told_before_any_work(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"cannot reach s3://bucket/a: .*Check AWS_ACCESS_KEY_ID"):
        if what == "pictures":
            find_pictures(["s3://bucket/a"], str(tmp_path))
        else:
            load_segmenter("s3://bucket/a")
