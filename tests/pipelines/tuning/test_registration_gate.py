"""The gate between a search and the model registry; the evaluation itself is tested elsewhere and stood in for here."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fss.evaluation.baselines import BASELINES, DENSITY_PRIOR
from fss.models import SegmenterConfig, create_segmenter, save_checkpoint
from fss.tracking.run import Run, tracking_client
from pipelines import evaluate
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.result import JobResult
from pipelines.tuning.config import GateConfig
from pipelines.tuning.registration_gate import METRIC, check_gate, evaluate_gate, gate_verdict, register
from pipelines.tuning.trial_runs import close_trial, open_trial
from tests.helpers.stores import fresh_store

GATE = GateConfig(evaluation="labelled", beats=("all foreground",), model="gated")
Ends = tuple[float, float, float]
AHEAD, BEHIND, UNSURE = (0.1, 0.05, 0.15), (-0.058, -0.081, -0.034), (0.1, -0.01, 0.2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    network = create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32)
    return str(save_checkpoint(network, tmp_path_factory.mktemp("gate") / "model"))


def answers(monkeypatch: pytest.MonkeyPatch, mious: dict[str, float], ahead: dict[str, Ends]) -> None:
    """Let every evaluation of a model that contains a word find its mIoU and its lead over each baseline."""

    def run(config: EvaluateJobConfig, *, parent: Run | None = None) -> JobResult:
        rows: list[dict[str, Any]] = [{"method": "model"}]
        for name, ends in ahead.items():
            rows.append({"method": name, **dict(zip(("ahead", "ahead_low", "ahead_high"), ends, strict=True))})
        Path(config.output).mkdir(parents=True, exist_ok=True)
        (Path(config.output) / "table.json").write_text(json.dumps(rows))
        miou = next(value for word, value in mious.items() if word in config.model)
        verdicts = {"model": {"line": "the verdict.", "ahead_of_all": True}}
        inputs = {"1-shot plan": "p" * 16}
        return JobResult(job="evaluate", metrics={METRIC: miou}, inputs=inputs, verdicts=verdicts)

    monkeypatch.setattr(evaluate, "run", run)


def test_what_passes_is_registered_under_its_alias_and_a_worse_one_is_not(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = TrackingConfig(uri=fresh_store(tmp_path))
    sweep = Run.start("tune", uri=tracking.uri)
    trial = open_trial(sweep, "a", {})
    close_trial(trial, "completed")
    ended = tracking_client(sweep.uri).get_run(trial.run_id).info

    answers(monkeypatch, {"model": 0.4}, {"all foreground": AHEAD})
    decision = evaluate_gate(checkpoint, GATE, output_dir=str(tmp_path / "gate"), tracking=tracking, mlflow_run=sweep)
    assert decision.passed
    assert decision.reasons[0] == "passed: ahead of all foreground: +10.0 [+5.0, +15.0] mIoU"
    uri = register(trial, checkpoint, GATE, decision, tags={"fss.sweep": sweep.run_id})
    assert uri == "models:/gated@champion"
    assert gate_verdict(decision, uri) == {
        "line": "Registered as models:/gated@champion. The verdict.",
        "ahead_of_all": True,
    }
    client = tracking_client(sweep.uri)
    version = client.get_model_version_by_alias("gated", "champion")
    assert (version.run_id, version.tags["fss.plan"]) == (trial.run_id, "p" * 16)
    now = client.get_run(trial.run_id).info
    assert (now.status, now.end_time) == (ended.status, ended.end_time), "logging its model does not lengthen the trial"

    answers(monkeypatch, {"models:/": 0.45, "model": 0.4}, {"all foreground": AHEAD})
    worse = evaluate_gate(checkpoint, GATE, output_dir=str(tmp_path / "gate"), tracking=tracking, mlflow_run=sweep)
    assert not worse.passed
    assert worse.reasons[-1] == "FAILED: gated@champion has mIoU 45.0, this model 40.0"
    line = "Not registered: gated@champion has mIoU 45.0, this model 40.0. The verdict."
    assert gate_verdict(worse, None)["line"] == line
    with pytest.raises(AssertionError, match="only a model that passed"):
        register(trial, checkpoint, GATE, worse, tags={})


def test_an_interval_around_zero_beats_nothing(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = TrackingConfig(uri=fresh_store(tmp_path))
    sweep = Run.start("tune", uri=tracking.uri)
    answers(monkeypatch, {"model": 0.4}, {"all foreground": UNSURE})
    decision = evaluate_gate(checkpoint, GATE, output_dir=str(tmp_path / "gate"), tracking=tracking, mlflow_run=sweep)
    assert not decision.passed
    assert decision.reasons == (
        "FAILED: not surely ahead of all foreground: +10.0 [-1.0, +20.0] mIoU",
        "passed: there is no gated@champion yet",
    )
    other = GateConfig(evaluation="labelled", beats=("magic",))
    with pytest.raises(ValueError, match=r"no baselines magic; gate\.beats takes all foreground"):
        evaluate_gate(checkpoint, other, output_dir=str(tmp_path / "gate"), tracking=tracking, mlflow_run=sweep)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"beats": ("all background",)},
            "no baselines all background; gate.beats takes 'all foreground', 'saliency of",
        ),
        ({"beats": (DENSITY_PRIOR,)}, f"no baselines {DENSITY_PRIOR}"),
        ({"model": "team/fss"}, "gate.model is 'team/fss', but MLflow takes a name without slashes"),
        ({"alias": "latest"}, "gate.alias is 'latest'; MLflow takes letters"),
        ({"alias": "v2"}, "gate.alias is 'v2'"),
        ({"alias": "my champion"}, "gate.alias is 'my champion'"),
    ],
)
def test_a_gate_that_cannot_be_applied_is_refused_before_the_search(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_gate(replace(GATE, **change), SegmenterConfig())
    joined = replace(GATE, beats=(*BASELINES, DENSITY_PRIOR))
    with pytest.raises(ValueError, match="no collection at"):  # the names are right, the collection is not
        check_gate(joined, SegmenterConfig(density_prior=True))


@pytest.mark.parametrize(
    ("ahead", "beats", "passed"),
    [
        ({"all foreground": AHEAD, "saliency of the query": AHEAD}, None, True),
        ({"all foreground": AHEAD, "saliency of the query": BEHIND}, None, False),
        ({"all foreground": AHEAD, "a later baseline": UNSURE}, None, False),
        ({"all foreground": AHEAD, "saliency of the query": BEHIND}, ("all foreground",), True),
        ({"all foreground": AHEAD, "saliency of the query": BEHIND}, (), True),
    ],
)
def test_a_model_must_beat_every_baseline_unless_some_are_named(
    ahead: dict[str, Ends], beats: tuple[str, ...] | None, passed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = TrackingConfig(uri=fresh_store(tmp_path))
    monkeypatch.setattr("pipelines.tuning.registration_gate.alias_uri", lambda uri, config: None)
    answers(monkeypatch, {"model": 0.4}, ahead)
    gate = GateConfig(evaluation="labelled", beats=beats)
    sweep: Any = SimpleNamespace(uri=tracking.uri)
    decision = evaluate_gate("model", gate, output_dir=str(tmp_path), tracking=tracking, mlflow_run=sweep)
    assert decision.passed == passed
    assert len(decision.reasons) == 1 + len(ahead if beats is None else beats)
