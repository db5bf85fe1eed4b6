"""The command line of a job: help, presets, settings files and exit codes."""

import json
import sys
from pathlib import Path
from typing import Annotated

import pytest
from annotated_types import Ge

from fss.core.config import settings
from fss.training.few_shot.config import OptimizerConfig
from pipelines.end_to_end.config import MaskSplitJobConfig
from pipelines.runtime.command_line import cli_main, read_config
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig


@settings
class Config:
    """Settings of a job."""

    folder: str = "here"
    """Folder of the photographs."""
    steps: Annotated[int, Ge(1)] = 1
    """Steps."""


COMMON = {"data": ("folder",)}
PRESETS = {"large": lambda: Config(folder="far", steps=9)}


def result_of(config: Config) -> JobResult:
    return JobResult(job="ingest")


@pytest.mark.parametrize(
    ("error", "code", "last_line"),
    [
        (ValueError("no photographs in /x; name a folder that has some"), 2, "ingest: error: no photographs in /x"),
        (RuntimeError("disk full"), 1, "ingest: error: RuntimeError: disk full"),
        (KeyboardInterrupt(), 130, "ingest: error: interrupted"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, last_line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: Config) -> JobResult:
        raise error

    monkeypatch.setattr(sys, "argv", ["ingest"])
    with pytest.raises(SystemExit) as stopped:
        cli_main(Config, run, job="ingest", description="Test.", common=COMMON)
    assert stopped.value.code == code
    err = capsys.readouterr().err
    assert err.strip().splitlines()[-1].startswith(last_line)
    assert ("Traceback" in err) == (code == 1)


def test_the_short_help_shows_examples_and_common_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    description = "Bring photographs in.\n\n    python -m pipelines.ingest --folder x\n\nMore.\n"
    monkeypatch.setattr(sys, "argv", ["ingest", "--help"])
    cli_main(Config, result_of, job="ingest", description=description, common=COMMON, presets=PRESETS)
    out = capsys.readouterr().out
    for words in (
        "usage: python -m pipelines.ingest",
        "python -m pipelines.ingest --folder x",
        "--folder TEXT",
        "Folder of the photographs. (default: here)",
        "--help-all                    All 2 settings.",
        "--preset large",
    ):
        assert words in out
    assert "--steps" not in out and "More." not in out and "dry-run" not in out


def test_the_long_help_shows_all_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    description = "Bring photographs in.\n\n    python -m pipelines.ingest --folder x\n\nMore.\n"
    monkeypatch.setattr(sys, "argv", ["ingest", "--help-all", "--preset", "large"])
    cli_main(Config, result_of, job="ingest", description=description, common=COMMON, presets=PRESETS)
    out = capsys.readouterr().out
    assert "Folder of the photographs. (default: far)" in out and "--steps INT" in out and "More." in out
    assert "--preset large" in out and "(here: large)" in out and "--help-all" not in out


def test_what_the_command_line_names_wins_over_a_preset_also_where_it_is_the_default() -> None:
    assert read_config(Config, ["--preset", "large"], job="ingest", presets=PRESETS) == Config(folder="far", steps=9)
    words = ["--preset", "large", "--steps", "1"]
    assert read_config(Config, words, job="ingest", presets=PRESETS) == Config(folder="far", steps=1)
    chosen = read_config(Config, [], job="ingest", presets=PRESETS, default_preset=lambda words: "large")
    assert chosen == Config(folder="far", steps=9)
    with pytest.raises(ValueError, match="there is no preset 'small'; the presets are large"):
        read_config(Config, ["--preset", "small"], job="ingest", presets=PRESETS)


def test_a_value_out_of_range_ends_with_code_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ingest", "--steps", "0"])
    with pytest.raises(SystemExit) as stopped:
        cli_main(Config, result_of, job="ingest", description="Test.", common=COMMON)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_gives_settings_that_the_command_line_replaces(tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    file.write_text(json.dumps({"ingest": {"folder": "there"}, "train": {"lanes": 3}}))
    assert read_config(Config, ["--config", str(file)], job="ingest") == Config(folder="there")
    assert read_config(Config, ["--config", str(file), "--folder", "x"], job="ingest") == Config(folder="x")
    with pytest.raises(ValueError, match="no settings of 'evaluate'; it has those of ingest, train"):
        read_config(Config, ["--config", str(file)], job="evaluate")
    with pytest.raises(ValueError, match=r"best\.json has the unknown setting lanes; --dry-run shows all settings"):
        read_config(Config, ["--config", str(file)], job="train")
    for section in (None, 3, ["folder"]):
        file.write_text(json.dumps({"ingest": section}))
        with pytest.raises(ValueError, match=r"the settings of 'ingest' in .* must be an object, got"):
            read_config(Config, ["--config", str(file)], job="ingest")
    for flag in ("--config", "--preset"):
        with pytest.raises(ValueError, match=f"^{flag} needs a value"):
            read_config(Config, ["--steps", "2", flag], job="ingest")
        for twice, words in (([flag, "a", flag, "b"], r"is given 2 times \(a, b\)"), ([flag, ""], "needs a value")):
            with pytest.raises(ValueError, match=f"^{flag} {words}"):
                read_config(Config, twice, job="ingest")
    file.write_text('{"ingest": {"steps": 2, "folder": "x", "steps": 3}}')
    with pytest.raises(ValueError, match=r"best\.json is not valid JSON: an object has 'steps' twice"):
        read_config(Config, ["--config", str(file)], job="ingest")
    with pytest.raises(ValueError, match="there is no settings file"):
        read_config(Config, ["--config", str(tmp_path / "no.json")], job="ingest")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"steps": "9"}, r"^\S+mine\.json: optimizer\.steps must be a valid integer, got '9'$"),
        ({"step": 9}, r"^\S+mine\.json has the unknown setting optimizer\.step; did you mean optimizer\.steps\?"),
    ],
)
def test_the_file_of_a_wrong_setting_is_named(content: dict[str, object], message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"train": {"optimizer": content}}))
    with pytest.raises(ValueError, match=message):
        read_config(TrainJobConfig, ["--config", str(file)], job="train")


def test_a_setting_of_a_file_without_effect_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"train": {"keep_weights": "raw", "optimizer": {"ema": 0.5}}}))
    message = r"^optimizer\.ema in \S+mine\.json has no effect: keep_weights is raw, so .*, or remove it from the file$"
    with pytest.raises(ValueError, match=message):
        read_config(TrainJobConfig, ["--config", str(file)], job="train")
    given = read_config(TrainJobConfig, ["--config", str(file), "--keep-weights", "averaged"], job="train")
    assert given.optimizer.ema == 0.5, "a flag gives it an effect"
    file.write_text(json.dumps({"train": {"optimizer": {"ema": 0.5}}}))
    given = read_config(TrainJobConfig, ["--config", str(file), "--keep-weights", "raw"], job="train")
    assert given.optimizer.ema == 0.5, "what a flag switches off may stay in the file"
    for same in (OptimizerConfig().ema, 0.0):
        file.write_text(json.dumps({"train": {"keep_weights": "raw", "optimizer": {"ema": same}}}))
        assert read_config(TrainJobConfig, ["--config", str(file)], job="train").optimizer.ema == same


def test_a_section_of_no_job_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"train": {}, "optimizer": {"steps": 9}}))
    with pytest.raises(ValueError, match=r"has the section 'optimizer', but a section has the name of a job"):
        read_config(TrainJobConfig, ["--config", str(file)], job="train")
    file.write_text(json.dumps({"steps": 9}))
    with pytest.raises(ValueError, match=r"the unknown setting steps; did you mean train\.optimizer\.steps\?"):
        read_config(MaskSplitJobConfig, ["--config", str(file)], job="masksplit")
