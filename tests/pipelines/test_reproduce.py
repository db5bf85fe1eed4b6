"""The ledger of claims, end to end on a stand-in for FSS-1000, with every state."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from fss.collection import ingest_local
from fss.collection.sources import SourceConfig
from fss.evaluation.claims import parse_claims, read_claims, select_claims
from fss.images.decode import decode_image
from fss.models import create_segmenter, save_checkpoint
from fss.synthetic.picture import SAMPLE_CLASSES, sample_unlabelled
from pipelines import evaluate, train
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.reproduce import run
from pipelines.reproduction import cost
from pipelines.reproduction.config import Collections, ReproduceConfig, TrainingOverrides
from pipelines.reproduction.requirements import find_needs
from pipelines.reproduction.training import trained_model
from pipelines.runtime.command_line import read_config
from pipelines.runtime.config import TrackingConfig
from pipelines.training.config import TrainJobConfig
from pipelines.training.presets import PRESETS

TINY = "timm:test_resnet.r160_in1k"
CLASSES, TESTED, IMAGES = 4, 2, 10
CLAIMS = f"""source,dataset,model,masking,backbone,shots,metric,claimed
low,FSS-1000,HSNet,none,{TINY},1,mIoU,0.0
high,FSS-1000,HSNet,none,{TINY},2,mIoU,100.0
unheard,FSS-1000,VAT,hybrid,ResNet-50,1,mIoU,89.4
elsewhere,PASCAL-5i,HSNet,feature,ResNet-50,1,mIoU,64.0
silent,PASCAL-5i,HSNet,none,unknown,1,mIoU,53.8
inferred,PASCAL-5i,MaskSplit,none,unknown,1,mIoU,53.8
"""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Painted pictures of one object as <class>/<1..10>.jpg with .png masks; the last two classes are tested."""
    home = tmp_path_factory.mktemp("fss")
    shown: dict[str, int] = {}
    for picture in sample_unlabelled(200, seed=3):
        name = SAMPLE_CLASSES[picture.classes[0]] if len(picture.classes) == 1 else ""
        if not name or shown.get(name, 0) == IMAGES or (name not in shown and len(shown) == CLASSES):
            continue
        shown[name] = shown.get(name, 0) + 1
        (home / "data" / name).mkdir(parents=True, exist_ok=True)
        (home / "data" / name / f"{shown[name]}.jpg").write_bytes(picture.jpeg)
        Image.fromarray((picture.mask > 0).astype("uint8") * 255).save(home / "data" / name / f"{shown[name]}.png")
        assert decode_image(picture.jpeg).shape[:2] == picture.mask.shape
    assert list(shown.values()) == [IMAGES] * CLASSES
    train, val, *test = sorted(shown)
    (home / "data" / "splits.json").write_text(json.dumps({"train": [train], "val": [val], "test": test}))
    return ingest_local(SourceConfig(kind="fss1000", path=str(home / "data")), str(home / "collection")).uri


@pytest.fixture(scope="module")
def config(collection: str, tmp_path_factory: pytest.TempPathFactory, tracking: TrackingConfig) -> ReproduceConfig:
    home = tmp_path_factory.mktemp("reproduce")
    (home / "claims.csv").write_text(CLAIMS)
    segmenter = create_segmenter(learner="hsnet", masking="none", backbone=TINY, image_size=64)
    save_checkpoint(segmenter, home / "models" / f"hsnet-none-{TINY.replace(':', '-')}-fss" / "model")
    return ReproduceConfig(
        output=str(home / "ledger"),
        collections=Collections(fss=collection),
        models=str(home / "models"),
        claims=str(home / "claims.csv"),
        visualizations=0,
        workers=0,
        tracking=tracking,
    )


def test_every_state_and_resume(config: ReproduceConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    # Stopped after the first claim: the ledger knows it, and nothing of the others.
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(evaluate, "run", stop_after(1))
        run(config)
    home = Path(config.output)
    first = json.loads((home / "ledger.json").read_text())
    assert [entry["state"] for entry in first.values()] == ["verified"] + ["not run"] * 5

    done: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "run", watched(done, evaluate.run))
        summary = run(config)
    assert done == ["finished before", "evaluated"]
    low, high, unheard, elsewhere, silent, inferred = json.loads((home / "ledger.json").read_text()).values()
    assert [entry["state"] for entry in (low, high)] == ["verified", "short"]
    assert summary.counts == {"verified": 1, "short": 1, "measured": 0, "not run": 4}
    (missing,) = unheard["missing"]
    assert missing.startswith(
        f"the checkpoint vat-hybrid-resnet50-fss/model in {config.models} (--models): the authors'"
    )
    assert ".pth.tar" in missing
    assert elsewhere["missing"][0].startswith("a collection of pascal (--collections.pascal), made by: python -m ")
    assert "JPEGImages/" in elsewhere["missing"][0]
    assert "hsnet-feature-resnet50-pascal/fold3" in elsewhere["missing"][1]
    assert silent["missing"] == ["the backbone, which the source does not name; name it in a file for --claims"]
    assert inferred["notes"][0] == (
        "the source names no backbone; inferred: resnet101_deepstem of the released configuration"
    )
    assert "one masksplit-none-resnet101_deepstem-pascal/model serves all folds" in inferred["missing"][1]
    assert (low["protocol"], low["episodes"]) == ("hsnet-derived", TESTED * IMAGES)
    assert low["result"] == low["folds"]["model"]

    folder = home / "evaluations" / parse_claims(CLAIMS)[1].key / "model"
    row = json.loads((folder / "table.json").read_text())[0]
    assert high["result"] == pytest.approx(100 * row["miou"], abs=0.01)
    assert high["plans"] == {"model": row["plan"]}
    (command,) = high["commands"]
    assert all(part in command for part in ("--benchmark fss", "--protocol hsnet", "--shots 2", "vote_published"))

    markdown = (home / "ledger.md").read_text()
    assert f"| high | FSS-1000 | HSNet | none | {TINY} | 2 | 100.0 | {high['result']:.1f} |" in markdown
    assert "6 claims: 1 verified, 1 short, 0 measured, 4 not run" in markdown
    assert len((home / "ledger.csv").read_text().splitlines()) == 7


def test_a_measured_figure_outlives_its_checkpoint(config: ReproduceConfig) -> None:
    run(config)
    summary = run(replace(config, models=None, dataset="FSS-1000"))
    assert summary.counts == {"verified": 1, "short": 1, "measured": 0, "not run": 4}


def test_the_ledger_of_other_claims_is_left_alone(config: ReproduceConfig) -> None:
    run(replace(config, model="MaskSplit"))
    with pytest.raises(ValueError, match="ledger of other claims"):
        run(replace(config, claims=None, model="MaskSplit"))


def test_a_dry_run_says_what_it_would_cost(
    config: ReproduceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "published_image_size", lambda *_: 64)
    summary = run(replace(config, backbone=TINY, dry_run=True, output=str(tmp_path / "nothing")))
    first = summary.metrics[parse_claims(CLAIMS)[0].key]
    hours = float(re.match(r"on this [CG]PU: about ([\d.]+) h; ready; on a GPU: unknown", first)[1])
    assert "; python -m pipelines.evaluate" in first
    few = run(replace(config, backbone=TINY, dry_run=True, episodes=2)).metrics[parse_claims(CLAIMS)[0].key]
    assert hours > float(few.partition("about ")[2].split(" h")[0])
    assert "in one process" in summary.metrics["all that is ready"]
    assert not (tmp_path / "nothing").exists()


def test_a_dry_run_checks_before_it_times(config: ReproduceConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost.CostMeter, "_seconds", lambda *_: pytest.fail("it timed a network"))
    for name in ("models", "weights_folder", "split_folder"):
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')}: there is no folder nowhere"):
            run(replace(config, dry_run=True, **{name: "nowhere"}))
    everything = run(replace(config, dry_run=True, claims=None, collections=Collections(), models=None)).metrics
    claims = [claim for claim in read_claims() if claim.model != "FSSDINO"]
    gets = [text for name, text in everything.items() if name.startswith("get ")]
    for claim in claims:
        assert re.search(r"on one GPU such as an A100: about \d+\.\d\d h \(computed", everything[claim.key])
        missing = find_needs(claim, replace(config, claims=None, collections=Collections(), models=None)).absent
        for each in missing:  # what is missing is said once with its page, its command and its number of files
            assert each.what in everything[claim.key]
            (how,) = {text for text in gets if text == str(each)}
            assert re.search(r"\(https?://[\w./-]+\)", how)
            assert re.search(r"expected: [\d,]+ (\.jpg|files?)\b", how)
            assert ("python -m pipelines.ingest --collection" in how) == ("collection of" in how)
        assert everything[claim.key].startswith("missing: a collection of ")
        checkpoints = re.search(r"the checkpoints? .* in a folder of models \(--models\)", everything[claim.key])
        assert (checkpoints is None) == (claim.model == "density")
    for flag, layout in {"pascal": "benchmark_RELEASE", "coco": "val2014/", "fss": "<class>/{1..10}.jpg"}.items():
        assert any(f"--collections.{flag})" in text and layout in text for text in everything.values())
    assert everything["all that is ready"].startswith("0.00 h")


def test_published_files_are_found_with_their_weights(config: ReproduceConfig, tmp_path: Path) -> None:
    folder = tmp_path / "hsnet-feature-resnet50-pascal"
    folder.mkdir()
    for fold in range(3):
        (folder / f"fold{fold}.pt").touch()
    (tmp_path / "resnet50.pth").touch()
    claim = parse_claims(CLAIMS)[3]
    settings = replace(config, models=str(tmp_path), weights_folder=str(tmp_path))
    needs = find_needs(claim, settings)
    assert [each.partition(" (")[0] for each in needs.missing] == [
        "a collection of pascal",
        f"the checkpoint hsnet-feature-resnet50-pascal/fold3 in {tmp_path}",
    ]
    (folder / "fold3.pth.tar").touch()
    needs = find_needs(claim, replace(settings, collections=Collections(pascal=config.collections.fss)))
    assert needs.missing == ()
    last = needs.evaluations[3]
    assert (last.fold, last.learner, last.masking, last.backbone) == (3, "hsnet", "feature", "resnet50")
    assert last.model.endswith("fold3.pth.tar")
    assert last.backbone_weights == str(tmp_path / "resnet50.pth")


def test_one_lightning_file_of_masksplit_serves_all_folds(config: ReproduceConfig, tmp_path: Path) -> None:
    (tmp_path / "masksplit-none-resnet101_deepstem-pascal").mkdir()
    (tmp_path / "masksplit-none-resnet101_deepstem-pascal" / "model.ckpt").touch()
    claim = next(claim for claim in read_claims() if claim.model == "MaskSplit" and claim.dataset == "PASCAL-5i")
    needs = find_needs(claim, replace(config, models=str(tmp_path), collections=Collections(pascal=str(tmp_path))))
    (missing,) = needs.missing
    assert missing.startswith(
        f"the collection {tmp_path} of --collections.pascal, made by: python -m pipelines.ingest "
    )
    assert [each.fold for each in needs.evaluations] == [0, 1, 2, 3]
    assert {each.model for each in needs.evaluations} == {
        str(tmp_path / "masksplit-none-resnet101_deepstem-pascal" / "model.ckpt")
    }
    assert {(each.backbone, each.protocol) for each in needs.evaluations} == {("resnet101_deepstem", "masksplit")}


def test_masksplit_is_trained_once_for_all_folds(config: ReproduceConfig, tmp_path: Path) -> None:
    claim = next(claim for claim in read_claims() if claim.model == "MaskSplit" and claim.dataset == "PASCAL-5i")
    uri = str(config.collections.fss)
    labelled = Collections(pascal=uri)
    settings = replace(config, models=None, collections=labelled, train=True)
    settings = replace(settings, training=TrainingOverrides(collections=labelled, saliency_mask_set="basnet", steps=3))
    assert find_needs(claim, settings).missing == (
        f"the mask set basnet of {uri}; make it with pipelines.pseudomask or fss masks import",
        "the backbone weights resnet101_deepstem.pth in a folder of backbone weights (--weights-folder); .pt, .ckpt "
        "and .safetensors are read too; no library has them; they come from semseg, hszhao on GitHub "
        "(https://github.com/hszhao/semseg); expected: 1 file",
    )
    (tmp_path / "resnet101_deepstem.pth").touch()
    override = replace(settings.training, saliency_mask_set="truth")
    needs = find_needs(claim, replace(settings, training=override, weights_folder=str(tmp_path)))
    (training,) = needs.trainings
    assert training.name == "masksplit-none-resnet101_deepstem-pascal"
    assert (training.episodes, training.mask_set, training.optimizer.steps) == ("split", "truth", 3)
    assert {each.model for each in needs.evaluations} == {trained_model(training)}
    words = shlex.split(needs.commands[0])
    assert words[3:5] == ["--preset", "masksplit-pascal"]
    assert read_config(TrainJobConfig, words[3:], job="train", presets=PRESETS) == training


@pytest.fixture(scope="module")
def training(config: ReproduceConfig, tmp_path_factory: pytest.TempPathFactory) -> ReproduceConfig:
    """The same claims without a checkpoint: the model is trained, for two steps."""
    home = tmp_path_factory.mktemp("training")
    backbone = create_segmenter(learner="hsnet", masking="none", backbone=TINY, image_size=80).backbone
    torch.save(backbone.state_dict(), home / f"{TINY.replace(':', '-')}.pth")
    return replace(
        config,
        output=str(home / "ledger"),
        models=None,
        weights_folder=str(home),
        train=True,
        training=TrainingOverrides(steps=2, batch_size=2, image_size=80, val_episodes=4),
        model="HSNet",
    )


def test_a_dry_run_counts_a_shared_training_once(training: ReproduceConfig) -> None:
    low, high, elsewhere, _ = (c for c in parse_claims(CLAIMS) if c.model == "HSNet")
    metrics = run(replace(training, dry_run=True, backbone=TINY)).metrics
    assert "of training that is not finished or counted above; ready; " in metrics[low.key]
    assert "; python -m pipelines.train" in metrics[low.key]
    assert "and 0.00 h of training" in metrics[high.key]
    longer = replace(training, dry_run=True, backbone=TINY, training=replace(training.training, steps=10**6))
    hours = float(run(longer).metrics[low.key].split(" and ")[1].split(" h")[0])
    assert hours > 1, "a million steps take a while"
    needs = find_needs(elsewhere, training)
    assert [each.partition(" (")[0] for each in needs.missing] == [
        "a collection of pascal",
        "a collection of pascal's training images",
        f"the backbone weights resnet50.pth in {training.weights_folder}",
    ]
    assert "--source.subset trainaug" in needs.missing[1]
    assert not Path(training.output).exists()


def test_the_commands_of_a_training_give_its_settings(training: ReproduceConfig) -> None:
    needs = find_needs(parse_claims(CLAIMS)[0], training)
    words = shlex.split(needs.commands[0])
    assert words[:5] == ["python", "-m", "pipelines.train", "--preset", "hsnet-fss"]
    assert read_config(TrainJobConfig, words[3:], job="train", presets=PRESETS) == needs.trainings[0]
    words = shlex.split(needs.commands[1])
    assert read_config(EvaluateJobConfig, words[3:], job="evaluate") == needs.evaluations[0]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_model_that_is_not_there_is_trained_once(training: ReproduceConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []
    monkeypatch.setattr(train, "run", watched(trained, train.run, "trained"))
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(evaluate, "run", stop_after(0))
        run(training)
    summary = run(training)
    assert trained == ["trained", "finished before", "finished before"]
    assert summary.counts == {"verified": 1, "short": 1, "measured": 0, "not run": 4}
    low, high, *_ = json.loads((Path(training.output) / "ledger.json").read_text()).values()
    assert low["training"] == high["training"] == "trained here with 4 episodes, published at most 10,400,000"
    assert "published at most 10,400,000) |" in (Path(training.output) / "ledger.md").read_text()
    metrics = run(replace(training, dry_run=True, backbone=TINY)).metrics
    assert "and 0.00 h of training" in metrics[parse_claims(CLAIMS)[0].key], "it is done"


def test_an_evaluation_that_is_not_the_authors_says_so(config: ReproduceConfig) -> None:
    claim = next(claim for claim in read_claims() if claim.model == "HSNet" and claim.dataset == "PASCAL-5i")
    assert find_needs(claim, replace(config, protocol="hsnet", episodes=None)).notes == ()
    assert find_needs(claim, replace(config, protocol="ours", episodes=9)).notes == (
        "protocol ours, not hsnet of the authors",
        "9 episodes a fold in place of the protocol's number",
    )


def test_what_cannot_be_trained_is_said(training: ReproduceConfig) -> None:
    claims = "source,dataset,model,masking,backbone,shots,metric,claimed\n"
    claims += "x,FSS-1000,ASNet,none,ResNet-50,1,mIoU,50.0\nx,FSS-1000,MaskSplit,none,ResNet-50,1,mIoU,50.0\n"
    asnet, masksplit = parse_claims(claims)
    missing = find_needs(asnet, replace(training, collections=Collections())).missing[0]
    assert missing.startswith("a collection of fss (--collections.fss), made by: ")
    assert find_needs(asnet, training).missing == ("published settings to train asnet on fss; give its checkpoints",)
    assert find_needs(masksplit, training).missing == (
        "published settings to train masksplit on fss; give its checkpoints",
    )
    for name in ("steps", "batch_size", "image_size", "val_episodes"):
        with pytest.raises(ValueError, match=name):
            TrainingOverrides(**{name: 0})


def stop_after(count: int):
    """An evaluation that is interrupted when it is called once more."""
    left = [count]
    real = evaluate.run

    def interrupted(*args, **kwargs):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*args, **kwargs)

    return interrupted


def watched(done: list[str], real, word: str = "evaluated"):
    """A job that writes down whether it had anything to do."""

    def watching(*args, **kwargs):
        summary = real(*args, **kwargs)
        done.append(word if summary.worked else "finished before")
        return summary

    return watching


def test_the_learner_without_training_needs_only_photographs(config: ReproduceConfig, tmp_path: Path) -> None:
    (tmp_path / "resnet50.pth").touch()
    (one,) = select_claims(read_claims(), model="density", dataset="PASCAL-5i", shots=1)
    collections = Collections(pascal=config.collections.fss)
    settings = replace(config, models=None, weights_folder=str(tmp_path), collections=collections)
    needs = find_needs(one, settings)
    assert (needs.missing, needs.trainings, len(needs.evaluations)) == ((), (), 4)
    for command in needs.commands:
        assert "--learner density" in command
        assert "--model " not in command
    assert {each.backbone_weights for each in needs.evaluations} == {str(tmp_path / "resnet50.pth")}
    assert {(each.protocol, each.fusion, each.shots) for each in needs.evaluations} == {("hsnet", "joint", (1,))}
    ours = find_needs(one, replace(settings, protocol="ours"))
    assert len(ours.evaluations) == 4 and not any(each.refines for each in ours.evaluations)
    (published,) = select_claims(read_claims(), model="FSSDINO")
    assert "no way to verify mIoU of FSSDINO on COCO-20i" in find_needs(published, config).missing[0]
