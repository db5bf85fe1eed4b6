"""The gate between a search and the model registry; the evaluation itself is tested elsewhere and stood in for here."""

import json
from pathlib import Path
from typing import Any

import pytest

from fss.models import create_segmenter, save_checkpoint
from fss.tracking.run import Run, tracking_client
from pipelines import evaluate
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.result import JobResult
from pipelines.tuning.config import GateConfig
from pipelines.tuning.registration_gate import METRIC, evaluate_gate, register
from pipelines.tuning.trial_runs import close_trial, open_trial

GATE = GateConfig(evaluation="labelled", beats=("all foreground",), model="gated")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    network = create_segmenter(backbone="timm:test_resnet.r160_in1k", width=32)
    return str(save_checkpoint(network, tmp_path_factory.mktemp("gate") / "model"))


def answers(monkeypatch: pytest.MonkeyPatch, mious: dict[str, float], ahead: tuple[float, float, float]) -> None:
    """Let every evaluation of a model that contains a word find its mIoU."""

    def run(config: EvaluateJobConfig, *, parent: Run | None = None) -> JobResult:
        ends = dict(zip(("ahead", "ahead_low", "ahead_high"), ahead, strict=True))
        rows: list[dict[str, Any]] = [{"method": "model"}, {"method": "all foreground", **ends}]
        Path(config.output).mkdir(parents=True, exist_ok=True)
        (Path(config.output) / "table.json").write_text(json.dumps(rows))
        miou = next(value for word, value in mious.items() if word in config.model)
        return JobResult(job="evaluate", metrics={METRIC: miou}, inputs={"1-shot plan": "p" * 16})

    monkeypatch.setattr(evaluate, "run", run)


def test_what_passes_is_registered_under_its_alias_and_a_worse_one_is_not(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    sweep = Run.start("tune", uri=tracking.uri)
    trial = open_trial(sweep, "a", {})
    close_trial(trial, "completed")
    ended = tracking_client(sweep.uri).get_run(trial.run_id).info

    answers(monkeypatch, {"model": 0.4}, (0.1, 0.05, 0.15))
    decision = evaluate_gate(checkpoint, GATE, output_dir=str(tmp_path / "gate"), tracking=tracking, mlflow_run=sweep)
    assert decision.passed
    assert decision.reasons[0] == "passed: ahead of all foreground by +10.0 [+5.0, +15.0] mIoU"
    uri = register(trial, checkpoint, GATE, decision, tags={"fss.sweep": sweep.run_id})
    assert uri == "models:/gated@champion"
    client = tracking_client(sweep.uri)
    version = client.get_model_version_by_alias("gated", "champion")
    assert (version.run_id, version.tags["fss.plan"]) == (trial.run_id, "p" * 16)
    now = client.get_run(trial.run_id).info
    assert (now.status, now.end_time) == (ended.status, ended.end_time), "logging its model does not lengthen the trial"

    answers(monkeypatch, {"models:/": 0.45, "model": 0.4}, (0.1, 0.05, 0.15))
    worse = evaluate_gate(checkpoint, GATE, output_dir=str(tmp_path / "gate"), tracking=tracking, mlflow_run=sweep)
    assert not worse.passed
    assert worse.reasons[-1] == "FAILED: gated@champion has mIoU 45.0, this model 40.0"
    with pytest.raises(AssertionError, match="only a model that passed"):
        register(trial, checkpoint, GATE, worse, tags={})


def test_an_interval_around_zero_beats_nothing(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    sweep = Run.start("tune", uri=tracking.uri)
    answers(monkeypatch, {"model": 0.4}, (0.1, -0.01, 0.2))
    decision = evaluate_gate(checkpoint, GATE, output_dir=str(tmp_path / "gate"), tracking=tracking, mlflow_run=sweep)
    assert not decision.passed
    assert decision.reasons == (
        "FAILED: ahead of all foreground by +10.0 [-1.0, +20.0] mIoU",
        "passed: there is no gated@champion yet",
    )
    other = GateConfig(evaluation="labelled", beats=("magic",))
    with pytest.raises(ValueError, match=r"no baselines magic; gate\.beats takes all foreground, model"):
        evaluate_gate(checkpoint, other, output_dir=str(tmp_path / "gate"), tracking=tracking, mlflow_run=sweep)
