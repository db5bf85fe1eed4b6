"""Claims from files in the authors' forms and data in the official layouts to a state in the ledger.

The networks are those of the claims, except that their ResNets have one block per stage and images few pixels.
"""

import json
import pickle
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path

import pytest
from torchvision.models.resnet import BasicBlock, Bottleneck

from fss.collection import ClassIndex, Collection, ingest_local
from fss.collection.sources import SourceConfig
from fss.episodes.benchmarks import ids_by_name
from fss.episodes.folds import FOLDS, coco_fold, pascal_fold
from fss.evaluation.claims import Claim, parse_claims, read_claims
from fss.models import published
from fss.models.backbones import resnet
from pipelines.reproduce import run
from pipelines.reproduction.config import Collections, ReproduceConfig
from pipelines.reproduction.requirements import BENCHMARKS, backbone_name
from pipelines.runtime.config import TrackingConfig
from tests.helpers.dataset_layouts import write_bytes, write_coco, write_fss1000, write_sbd, write_voc
from tests.helpers.published_forms import ENDINGS, write_published

SIZES = {"asnet": 160}  # of the others 64
FORMS = """source,dataset,model,masking,backbone,shots,metric,claimed
flat,FSS-1000,HSNet,feature,ResNet-50,1,mIoU,100
lightning,FSS-1000,ASNet,none,ResNet-50,1,mIoU,100
tar,FSS-1000,VAT,hybrid,ResNet-50,1,FB-IoU,0
deep stem,FSS-1000,MaskSplit,none,unknown,2,mIoU,0
"""


@pytest.fixture(autouse=True)
def thin(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, block in {"resnet50": BasicBlock, "resnet101": BasicBlock, "resnet101_deepstem": Bottleneck}.items():
        monkeypatch.setitem(resnet.BUILDERS, name, partial(resnet._build, blocks=(1, 1, 1, 1), block=block))
    monkeypatch.setattr(published, "published_image_size", lambda learner, _: SIZES.get(learner, 64))


def write_models(folder: Path, claims: Iterable[Claim]) -> None:
    """Write the checkpoints of claims; all folds of a network share one file through links."""
    for claim in claims:
        learner, backbone = claim.model.lower(), backbone_name(claim)
        benchmark = BENCHMARKS[claim.dataset].partition("-")[0]
        name = f"{learner}-{claim.masking}-{backbone}-{benchmark}"
        stems = ["model"] if benchmark == "fss" or learner == "masksplit" else [f"fold{fold}" for fold in range(FOLDS)]
        files = [folder / name / f"{stem}{ENDINGS[learner]}" for stem in stems]
        if not files[0].exists():
            write_published(files[0], learner=learner, backbone=backbone, benchmark=benchmark)
            for file in files[1:]:
                file.symlink_to(files[0])


def write_fss_lists(folder: Path, names: list[str]) -> None:
    for split, name in zip(("trn", "val", "test"), names, strict=True):
        write_bytes(folder / "fss" / f"{split}.txt", f"{name}\n".encode())


def write_fold_lists(folder: Path, pascal: Collection, coco: Collection) -> None:
    """Write the lists of PASCAL-5i and COCO-20i as HSNet's code has them."""
    shown = {}
    for benchmark, collection in (("pascal", pascal), ("coco", coco)):
        names = {image_id: name for name, image_id in ids_by_name(collection, benchmark).items()}
        index = ClassIndex.build(collection.mask_set("truth"))
        shown[benchmark] = {c: [names[entry.image_id] for entry in index[c]] for c in index}
    for number in range(FOLDS):
        lines = [f"{name}__{c:02d}\n" for c in pascal_fold(number).test for name in shown["pascal"][c]]
        write_bytes(folder / "pascal" / "val" / f"fold{number}.txt", "".join(lines).encode())
        tested = coco_fold(number).test
        lists = {c - 1: [f"val2014/{n}.jpg" for n in shown["coco"][c]] if c in tested else [] for c in range(1, 81)}
        write_bytes(folder / "coco" / "val" / f"fold{number}.pkl", pickle.dumps(lists))


def config_of(home: Path, tracking: TrackingConfig) -> ReproduceConfig:
    names = ["ant", "bee", "cup"]
    write_fss1000(home / "FSS-1000", names)
    write_fss_lists(home / "splits", names)
    fss = ingest_local(SourceConfig(kind="fss1000", path=str(home / "FSS-1000")), str(home / "fss"))
    return ReproduceConfig(
        output=str(home / "ledger"),
        collections=Collections(fss=fss.uri),
        models=str(home / "models"),
        split_folder=str(home / "splits"),
        episodes=1,
        visualizations=0,
        workers=0,
        device="cpu",
        tracking=tracking,
    )


def test_every_published_form_of_a_checkpoint_reaches_a_state(tmp_path: Path, tracking: TrackingConfig) -> None:
    (tmp_path / "claims.csv").write_text(FORMS)
    write_models(tmp_path / "models", parse_claims(FORMS))
    config = replace(config_of(tmp_path, tracking), claims=str(tmp_path / "claims.csv"))
    run(config)
    entries = json.loads((tmp_path / "ledger" / "ledger.json").read_text()).values()
    assert [(entry["state"], *entry["missing"]) for entry in entries] == [("short",)] * 2 + [("verified",)] * 2
    assert [entry["protocol"] for entry in entries] == ["hsnet-given", "ifsl-given", "hsnet-given", "masksplit"]
    assert {file.name for file in (tmp_path / "models").rglob("model*")} == {"model.pt", "model.ckpt", "model.pth.tar"}
    text = (tmp_path / "ledger" / "ledger.md").read_text()
    assert "; the source names no backbone; inferred: resnet101_deepstem of the released configuration; " in text
    assert "| deep stem | FSS-1000 | MaskSplit | none | unknown | 2 |" in text


@pytest.mark.slow
def test_every_published_claim_reaches_a_state(tmp_path: Path, tracking: TrackingConfig) -> None:
    claims = [claim for claim in read_claims() if claim.model not in ("density", "FSSDINO")]  # which have no checkpoint
    write_models(tmp_path / "models", claims)
    config = config_of(tmp_path, tracking)
    names = write_voc(tmp_path / "VOCdevkit" / "VOC2012", count=130, val=range(120), even=True, augmented=False)
    write_sbd(tmp_path / "VOCdevkit", names[120:])
    write_coco(tmp_path / "COCO2014", "val2014", count=400, rendered=True, even=True)
    voc = SourceConfig(kind="voc", path=str(tmp_path / "VOCdevkit"), subset="val")
    coco = SourceConfig(kind="coco", path=str(tmp_path / "COCO2014"), subset="val2014")
    collections = replace(
        config.collections,
        pascal=ingest_local(voc, str(tmp_path / "pascal")).uri,
        coco=ingest_local(coco, str(tmp_path / "coco")).uri,
    )
    write_fold_lists(tmp_path / "splits", Collection.open(collections.pascal), Collection.open(collections.coco))
    table = resources.files("fss.evaluation").joinpath("claims.csv").read_text().splitlines(keepends=True)
    (tmp_path / "claims.csv").write_text("".join(table[: len(claims) + 1]))
    counts = run(replace(config, collections=collections, claims=str(tmp_path / "claims.csv"))).counts
    entries = json.loads((tmp_path / "ledger" / "ledger.json").read_text()).values()
    assert counts["not run"] == 0, {missing for entry in entries for missing in entry["missing"]}
    assert counts["verified"] + counts["short"] == len(claims) == 64
    assert {entry["protocol"] for entry in entries} == {"hsnet-given", "ifsl-given", "masksplit"}
    assert {len(entry["folds"]) for entry in entries} == {1, FOLDS}
