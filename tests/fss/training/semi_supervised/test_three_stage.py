"""The three-stage framework's loss, teacher and loop."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fss.collection import Collection
from fss.collection.class_map import ClassTable
from fss.models.semantic.config import SemanticConfig
from fss.models.semantic.network import build_semantic
from fss.training.ema import Ema
from fss.training.semi_supervised.batches import SemanticBatch, SemanticStream
from fss.training.semi_supervised.config import (
    LabelledConfig,
    SemanticStreamConfig,
    Stage,
    StageConfig,
    StrongConfig,
    ThreeStageConfig,
    WeakConfig,
)
from fss.training.semi_supervised.losses import StageTargets, TeacherTargets, stage_loss
from fss.training.semi_supervised.mask_writer import evaluate_network
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import scan_rows
from fss.training.semi_supervised.strong_augmentation import warp_labels
from fss.training.semi_supervised.three_stage import SemanticLoop, auxiliary_head
from tests.helpers import scenes
from tests.helpers.processes import train_on_workers

CITYSCAPES, PASCAL = ThreeStageConfig(), ThreeStageConfig(supervised_weight=1.0)
NO_CUTOUTS = StrongConfig(cutouts=0)
SHORT = ThreeStageConfig(
    first=StageConfig(steps=6, labelled=2, pool=0),
    second=StageConfig(steps=4, labelled=2, pool=2),
    third=StageConfig(steps=4, labelled=2, pool=2),
    learning_rate=3e-3,
    backbone_learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    made = scenes.build(tmp_path_factory.mktemp("three-stage") / "c", 8, 4)
    scenes.write_masks(made, "stage-1")
    return made


def loop(
    collection: Collection,
    stage: Stage,
    config: ThreeStageConfig = SHORT,
    *,
    kind: SemanticConfig = scenes.NETWORK,
    strong: StrongConfig = NO_CUTOUTS,
    cache: int = 0,
    rank: int = 0,
    world: int = 1,
) -> SemanticLoop:
    network = build_semantic(kind, classes=3, auxiliary=auxiliary_head(config, stage))
    stream = SemanticStream(
        SemanticReader(collection, ClassTable(collection.classes), cache_gb=0.1),
        scan_rows(collection.mask_set("truth"), LabelledConfig()),
        SemanticStreamConfig(
            weak=WeakConfig(crop=(32, 48), scales=(1, 1)),
            strong=strong,
            cache_features=cache,
            lanes=2,
            decode_threads=1,
            ahead=0,
        ),
        truth=collection.mask_set("truth"),
        pseudo=collection.mask_set("stage-1") if stage > 1 else None,
        labelled=config.stage(stage).labelled,
        pool=config.stage(stage).pool,
        rank=rank,
        world=world,
    )
    model = DistributedDataParallel(network) if world > 1 else network
    return SemanticLoop(model, stream, config, stage=stage)


def batch_of(running: SemanticLoop) -> SemanticBatch:
    return next(iter(running.stream.batches(0, 1)))


def certain(labels: list[int], odds: float) -> Tensor:
    """Logits [len, 2, 1, 1] that give each label the odds."""
    logits = torch.zeros(len(labels), 2, 1, 1)
    for row, label in enumerate(labels):
        logits[row, label] = math.log(odds)
    return logits


@pytest.mark.parametrize(("config", "weight"), [(CITYSCAPES, 0.5), (PASCAL, 1.0)])
def test_loss_weights_on_hand_made_logits(config: ThreeStageConfig, weight: float) -> None:
    # One labelled picture, three of the pool; the main head answers with odds 3, the auxiliary head with odds 9.
    main, auxiliary = certain([0, 0, 0, 0], 3.0), certain([1, 1, 1, 1], 9.0)
    truth = torch.zeros(1, 1, 1, dtype=torch.uint8)
    teacher = torch.tensor([0, 1, 255, 0], dtype=torch.uint8).view(4, 1, 1)
    pseudo = torch.tensor([1, 0, 1, 255], dtype=torch.uint8).view(4, 1, 1)
    targets = StageTargets(truth, TeacherTargets(teacher), pseudo)
    loss, parts = stage_loss(main, auxiliary, targets, config.loss_weights(0))
    right, wrong = -math.log(3 / 4), -math.log(1 / 4)
    expected = {
        "supervised": right,
        "consistency": (2 * right + wrong) / 3,
        "pseudo": (2 * -math.log(9 / 10) - math.log(1 / 10)) / 3,
    }
    assert parts == pytest.approx(expected)
    total = weight * expected["supervised"] + 0.25 * expected["consistency"] + 0.25 * expected["pseudo"]
    assert float(loss.mean) == pytest.approx(total) and float(loss.local) == pytest.approx(total)


@pytest.mark.parametrize("stage", [2, 3])
def test_the_truth_never_reaches_one_head_nor_the_masks_the_other(collection: Collection, stage: Stage) -> None:
    running = loop(collection, stage)
    network = running.network.eval()  # batch statistics are not the question here
    batch = batch_of(running)
    assert batch.pool is not None and running.teacher is not None
    teacher = running.teacher.targets(batch.labelled, batch.pool)
    moved = warp_labels(batch.pool.pseudo, batch.pool.source)

    def gradients(truth: Tensor, pseudo: Tensor) -> dict[str, Tensor]:
        network.zero_grad()
        main, auxiliary = network(torch.cat([batch.labelled.pixels, batch.pool.strong]))
        loss, _ = stage_loss(main, auxiliary, StageTargets(truth, teacher, pseudo), running.config.loss_weights(0))
        torch.autograd.backward(loss.local)
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    def same(first: dict[str, Tensor], second: dict[str, Tensor], prefix: str) -> bool:
        names = [name for name in first if name.startswith(prefix)]
        assert names
        return all(torch.equal(first[name], second[name]) for name in names)

    pseudo = torch.cat([batch.labelled.pseudo, moved])
    reference = gradients(batch.labelled.truth, pseudo)
    other_truth = gradients(2 - batch.labelled.truth.clamp(max=2), pseudo)
    other_masks = gradients(batch.labelled.truth, 2 - pseudo.clamp(max=2))
    assert same(reference, other_truth, "auxiliary_head.") and not same(reference, other_truth, "head.")
    assert same(reference, other_masks, "head.") and not same(reference, other_masks, "auxiliary_head.")
    assert not same(reference, other_masks, "backbone."), "shared layers learn from both"


def test_half_precision_has_nearly_the_same_loss_and_keeps_its_weights_whole(collection: Collection) -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        running = loop(collection, 2)
        running.precision = precision  # type: ignore[assignment]
        losses.append(next(running.run()).loss)
        assert {parameter.dtype for parameter in running.network.parameters()} == {torch.float32}
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_ramp_up_holds_back_the_teachers_answers_alone() -> None:
    config = replace(PASCAL, ramp_up=100)
    weights = [config.loss_weights(step) for step in (0, 50, 100, 5000)]
    grown = [weight["consistency"] / 0.25 for weight in weights]
    assert grown == pytest.approx([math.exp(-5), math.exp(-1.25), 1.0, 1.0])
    assert all((weight["supervised"], weight["pseudo"]) == (1.0, 0.25) for weight in weights)


def test_the_teachers_decay_changes_at_the_epochs_edges() -> None:
    steps = [0, 19_999, 20_000, 39_999, 40_000, 49_999, 50_000, 59_999]
    expected = [0.99, 0.99, 0.995, 0.995, 0.9975, 0.9975, 0.999, 0.999]
    assert [CITYSCAPES.teacher_decay(step) for step in steps] == expected


def test_the_teacher_averages_parameters_and_buffers_from_the_first_step(collection: Collection) -> None:
    config = replace(SHORT, ema=((0, 0.9), (2, 0.5)), epoch_steps=1)
    running = loop(collection, 2, config, kind=replace(scenes.NETWORK, frozen_norm="none"))
    assert running.ema is not None
    start = {name: value.clone() for name, value in running.ema.average.items()}
    own = dict(running.network.named_parameters()) | dict(running.network.named_buffers())
    assert all(torch.equal(value, own[name]) for name, value in start.items()), "the teacher starts as the student"
    students = []
    for report in running.run():
        students.append({name: own[name].detach().clone() for name in start})
        if report.step == 3:
            break
    expected, buffers = dict(start), 0
    for student, decay in zip(students, (0.9, 0.9, 0.5), strict=True):
        expected = {
            n: decay * v + (1 - decay) * student[n] if v.is_floating_point() else student[n]
            for n, v in expected.items()
        }
    for name, value in running.ema.average.items():
        assert torch.allclose(value, expected[name], atol=1e-6), name
        buffers += name.endswith("running_mean") and not torch.equal(value, start[name])
    assert buffers, "statistics of normalisation that learns are averaged too"


def test_an_average_without_warm_up_takes_its_decay_at_once() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    averages = [Ema(model, 0.9), Ema(model, 0.9, warm_up=False)]
    with torch.no_grad():
        before = float(model.weight)
        model.weight += 1
    for average in averages:
        average.update(model)
    moved = [float(average.average["weight"]) - before for average in averages]
    assert moved == pytest.approx([1 - 2 / 11, 0.1], abs=1e-6)


def test_the_teacher_answers_by_its_main_head_and_moves_with_the_picture(collection: Collection) -> None:
    running = loop(collection, 2)
    batch = batch_of(running)
    assert batch.pool is not None and running.ema is not None and running.teacher is not None
    # The student's head knows the car alone, the teacher's the road: only the teacher's answer may come back.
    with torch.no_grad():
        for name, value in running.ema.average.items():
            if name.startswith(("head.layers.low_classifier", "head.layers.high_classifier")):
                value.zero_()
        running.ema.average["head.layers.high_classifier.bias"][1] = 1.0
    answers = running.teacher.targets(batch.labelled, batch.pool).labels
    count = len(batch.labelled.ids)
    assert (answers[:count][batch.labelled.inside] == 1).all() and (
        answers[:count][~batch.labelled.inside] == 255
    ).all()
    assert ((answers[count:] == 1) == (batch.pool.source >= 0)).all()
    running.teacher.config = replace(running.config, confidence=0.99)
    doubtful = running.teacher.targets(batch.labelled, batch.pool).labels
    assert (doubtful == 255).all(), "a probability of 0.58 is not sure enough"


def test_a_step_of_the_published_settings_moves_the_backbone_three_times_as_far_as_written() -> None:
    """Adam's first step moves every weight by its rate, and the released optimiser has each convolution three times."""
    assert (CITYSCAPES.learning_rate, CITYSCAPES.backbone_learning_rate) == (3e-5, 3 * 3e-6)
    network = build_semantic(scenes.NETWORK, classes=3).double()
    groups = network.parameter_groups(CITYSCAPES.learning_rate, CITYSCAPES.backbone_learning_rate)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.Adam(groups).step()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            moved = float((before[name] - parameter.detach()).abs().max())
            assert moved == pytest.approx(9e-6 if name.startswith("backbone.") else 3e-5, rel=1e-4), name


def test_without_masks_there_is_no_auxiliary_head_and_the_pool_alone_follows_the_teacher(
    collection: Collection,
) -> None:
    config = replace(SHORT, pseudo_weight=0.0, teacher_weight=1.0, consistency_on="pool", target="confidence")
    assert auxiliary_head(config, 2) == "none" and auxiliary_head(SHORT, 2) == "deep"
    assert config.loss_weights(0) == {"supervised": 0.5, "consistency": 1.0, "pseudo": 0.0}
    running = loop(collection, 2, config)
    batch = batch_of(running)
    assert batch.pool is not None and running.teacher is not None
    targets = running.teacher.targets(batch.labelled, batch.pool)
    assert len(targets.labels) == len(batch.pool.ids) and targets.weights is not None
    probabilities = running.network.eval()(batch.pool.pixels).main.softmax(1).amax(1)
    inside = batch.pool.source >= 0
    expected = probabilities.square().flatten(1).gather(1, batch.pool.source.clamp(min=0).flatten(1)).view_as(inside)
    assert torch.allclose(targets.weights[inside], expected[inside], atol=1e-5)
    report = next(running.run())
    assert set(report.parts) == {"supervised", "consistency"}


@pytest.mark.parametrize("mix", ["cutmix", "classmix"])
@pytest.mark.parametrize("target", ["hard", "soft"])
def test_mixed_pictures_have_mixed_targets(collection: Collection, mix: str, target: str) -> None:
    config = replace(SHORT, target=target, second=StageConfig(steps=2, labelled=2, pool=4))
    running = loop(collection, 2, config, strong=replace(NO_CUTOUTS, operations=0, mix=mix, mix_probability=1.0))
    plain = loop(collection, 2, config, strong=StrongConfig(operations=0, cutouts=0))
    batch, unmixed = batch_of(running), batch_of(plain)
    assert batch.pool is not None and unmixed.pool is not None and running.teacher is not None
    assert batch.pool.partner.tolist() == [1, -1, 1, -1], "partners share a lane, whatever the workers"
    if mix == "cutmix":
        by_name = dict(zip(unmixed.pool.ids, unmixed.pool.strong, strict=True))
        for number, picture in enumerate(batch.pool.strong):
            own, partner = by_name[batch.pool.ids[number]], by_name[batch.pool.ids[number ^ 1]]
            assert torch.equal(picture, torch.where(batch.pool.area[number], partner, own))
    seen = []
    predict = running._predict
    running._predict = lambda pixels: seen.append(pixels) or predict(pixels)  # type: ignore[method-assign, func-returns-value]
    reports = list(running.run())
    assert len(reports) == 2 and not torch.equal(seen[0][2:], batch.pool.pixels)


def test_cached_features_train_as_pictures_do_and_are_computed_once(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "half", lambda tensor: tensor)  # features of random weights are too small for it
    frozen = replace(scenes.NETWORK, frozen_stages=3)
    config = replace(SHORT, second=StageConfig(steps=6, labelled=2, pool=4))
    mixing = StrongConfig(cutouts=0, mix="cutmix")
    live = [r.loss for r in loop(collection, 2, config, kind=frozen, strong=mixing).run()]
    running = loop(collection, 2, config, kind=frozen, strong=mixing, cache=1)
    encoded = []
    lower = running.network.lower
    running.network.lower = lambda pixels: encoded.append(len(pixels)) or lower(pixels)  # type: ignore[method-assign, func-returns-value]
    cached = [report.loss for report in running.run()]
    steps = 8 // 4  # of an epoch of the pool
    assert cached[:steps] == pytest.approx(live[:steps], rel=1e-4)
    assert encoded.count(4) == 2 * steps, "weak and strong views of one epoch of the pool"


def test_all_stages_learn(collection: Collection) -> None:
    for stage in (1, 2, 3):
        reports = list(loop(collection, stage, replace(SHORT, ema=((0, 0.5),))).run())
        names = ("supervised",) if stage == 1 else ("supervised", "consistency", "pseudo")
        assert [report.step for report in reports] == list(range(1, SHORT.stage(stage).steps + 1))
        assert tuple(reports[0].parts) == names
        assert reports[-1].parts["supervised"] < reports[0].parts["supervised"]


def test_a_stopped_stage_goes_on_as_if_it_had_not_been_stopped(collection: Collection, tmp_path: Path) -> None:
    config = replace(SHORT, decay="poly")
    whole = [report.loss for report in loop(collection, 3, config).run()]
    first = loop(collection, 3, config)
    for report in first.run():
        if report.step == 2:
            torch.save(first.state_dict(), tmp_path / "state.pt")
            break
    second = loop(collection, 3, config)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [report.loss for report in second.run()] == pytest.approx(whole[2:], rel=1e-6)
    assert [config.rate_factor(step, 4) for step in (0, 4)] == [1.0, 0.0]


def _train(rank: int, world: int, collection: Collection, folder: str) -> None:
    """Train stage 2, also with fewer pictures of a kind than workers, and judge the last network."""
    # No batch statistics, no dropout.
    frozen = SemanticConfig(network="deeplabv2", backbone="resnet18", stride=16, frozen_norm="all")
    losses = []
    for second in (SHORT.second, StageConfig(steps=2, labelled=1, pool=1)):
        running = loop(collection, 2, replace(SHORT, second=second), kind=frozen, rank=rank, world=world)
        losses += [(report.loss, report.parts) for report in running.run()]
    truth, network = collection.mask_set("truth"), build_semantic(frozen, classes=3).train()
    reader = SemanticReader(collection, ClassTable(collection.classes))
    rows = scan_rows(truth, LabelledConfig())
    counts = [evaluate_network(network, reader, rows, truth, precision=p).counts.tolist() for p in ("fp32", "bf16")]
    assert network.training
    torch.save((losses, counts), Path(folder) / f"{world}-{rank}.pt")


def test_two_workers_train_and_judge_as_one_does(collection: Collection, tmp_path: Path) -> None:
    _train(0, 1, collection, str(tmp_path))
    train_on_workers(2, _train, collection, str(tmp_path))
    (one, whole), (first, counts), second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert (first, counts) == second and len(one) == SHORT.second.steps + 2
    assert [loss for loss, _ in first] == pytest.approx([loss for loss, _ in one], rel=1e-4)
    for (_, found), (_, expected) in zip(first, one, strict=True):
        assert found == pytest.approx(expected, rel=1e-3)
    assert counts == whole and sum(map(sum, counts[0])) == sum(map(sum, counts[1])) > 0


def test_settings_that_make_no_sense_are_refused() -> None:
    stage = StageConfig(steps=5, labelled=1, pool=1)
    for change, words in (
        ({"first": stage}, "first.pool is 0, because stage 1 has no pool; got 1"),
        ({"third": replace(stage, pool=0)}, "third.pool is 1 or more pictures per step, got 0"),
        ({"ema": ((1, 0.9),)}, "ema begins with epoch 0, got ((1, 0.9),)"),
        ({"ema": ((0, 1.0),)}, "ema.0.1 must be less than 1, got 1.0"),
        (
            {"confidence_by_class": True},
            "confidence_by_class lowers a confidence, got None; set --training.confidence, such as 0.9",
        ),
        ({"confidence": 1.0}, "confidence must be less than 1, got 1.0"),
        ({"learning_rate": -1.0}, "learning_rate must be greater than or equal to 0, got -1.0"),
    ):
        with pytest.raises(ValueError) as raised:
            ThreeStageConfig(**change)  # type: ignore[arg-type]
        assert str(raised.value) == words
    with pytest.raises(ValueError) as raised:
        replace(stage, steps=0)
    assert str(raised.value) == "steps must be greater than or equal to 1, got 0"
