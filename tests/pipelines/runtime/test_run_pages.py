"""What MLflow's pages show of a run: its name, the groups of its metrics, its description, and the link to them."""

import pytest

from fss.evaluation.report import to_markdown
from fss.tracking.run import Run
from fss.tracking.store import run_page
from pipelines.runtime.description import LIMIT, comparison_address, describe
from pipelines.runtime.labels import Labels
from pipelines.runtime.metric_names import grouped_name, method_metrics, result_metrics, validation_name
from pipelines.runtime.result import JobResult


@pytest.mark.parametrize(
    ("name", "grouped"),
    [
        ("1-shot/model/mIoU", "eval/1-shot/mIoU"),
        ("5-shot/model/sureness.spearman", "eval/5-shot/sureness.spearman"),
        ("1-shot/untrained prototype/FB-IoU", "eval/1-shot/baselines/FB-IoU.untrained prototype"),
        ("round-1: 1-shot/model/mIoU", "round-1/eval/1-shot/mIoU"),
        ("best model: 1-shot mIoU", "best model/eval/1-shot/mIoU"),
        ("held_out_iou", "kept/held_out_iou"),
        ("stage 2: last val_miou", "stage 2/kept/last val_miou"),
        ("kept.agreement", "kept/agreement"),
        ("images per second", "speed/images per second"),
        ("importance of split.tilt", "importance/split.tilt"),
        ("changed pixels", "result/changed pixels"),
    ],
)
def test_results_are_grouped_by_what_they_measure(name: str, grouped: str) -> None:
    assert grouped_name(name) == grouped


def test_logged_names_are_allowed_and_baselines_get_the_names_of_the_model() -> None:
    metrics = {"1-shot/model/mIoU": 0.5, "1-shot/all foreground/mIoU": 0.1, "sentence": "none"}
    assert result_metrics({"photographs: usable": 3}, metrics) == {
        "total/photographs_usable": 3,
        "eval/1-shot/mIoU": 0.5,
        "eval/1-shot/baselines/mIoU.all_foreground": 0.1,
    }
    assert method_metrics(metrics, "all foreground") == {"eval/1-shot/mIoU": 0.1}
    assert (validation_name("val_miou"), validation_name("held_out_iou")) == ("val/miou", "val/held_out_iou")


def test_a_run_is_named_by_data_backbone_work_and_settings() -> None:
    labels = Labels(data="birds", backbone="timm:resnet10t.c3_in1k", learner="hsnet", amount="40 steps")
    assert labels.run_name("train", "3f2a81c0ffee") == "train birds resnet10t.c3_in1k 40 steps (3f2a81)"
    assert labels.tags() == {"fss.data": "birds", "fss.backbone": "timm:resnet10t.c3_in1k", "fss.learner": "hsnet"}
    assert (Labels().run_name("stage-1", "3f2a81c0ffee"), Labels().tags()) == ("stage-1", {})


def test_a_description_has_the_verdict_first_then_pictures_table_notes_and_command() -> None:
    result = JobResult(
        job="tune",
        counts={"steps": 3},
        metrics={"about|this": "a * b"},
        outputs={"model": "/models/a"},
        notes=["two\nlines", "of *notes*"],
        verdicts={"model": {"line": "the model is NOT ahead of a_b [1]"}},
    )
    assert describe(result, command="python -m x --a 1 --b", pictures={"history": "get-artifact?path=h.png"}).split(
        "\n\n"
    ) == [
        "**Verdict**: the model is NOT ahead of a\\_b \\[1\\]",
        "![history](get-artifact?path=h.png)",
        "|             | result                   |\n|-------------|--------------------------|\n"
        "| about\\|this | a \\* b                   |\n| steps       | 3 steps of the optimiser |",
        "**Notes**",
        "- two lines\n- of \\*notes\\*",
        "**Outputs**",
        "- model: `/models/a`",
        "**Again**",
        "```\npython -m x \\\n    --a 1 \\\n    --b\n```",
    ]
    result.markdown = "| a table |\n" * 600
    assert len(describe(result)) <= LIMIT and describe(result).endswith("summary.json.*")


def test_notes_of_a_table_are_a_list_because_markdown_joins_lines() -> None:
    row = {"shots": 1, "method": "model", "plan": "abc", "episodes": 9, "protocol": "ours", "size": 80, "passes": 0}
    ends = {f"{name}{end}": 0.5 for name in ("miou", "episode_miou", "fb_iou") for end in ("", "_low", "_high")}
    table = [
        {
            **row,
            **ends,
            "original_size": False,
            "by_size": {},
            "passes_per_query": 1,
            "refined": False,
            "flipped": False,
            "tiled": 0,
        }
    ]
    *_, notes = to_markdown(table).split("\n\n")
    assert [line[:2] for line in notes.splitlines()] == ["- "] * len(notes.splitlines()) and "plan abc" in notes


@pytest.mark.parametrize(
    ("store", "page", "command"),
    [
        (
            "sqlite:////data/my runs/mlflow.db",
            "http://127.0.0.1:5000/#/experiments/1/runs/ab?workflowType=machine_learning",
            "mlflow ui --backend-store-uri 'sqlite:////data/my runs/mlflow.db'",
        ),
        ("http://me:secret@host:80/", "http://host:80/#/experiments/1/runs/ab?workflowType=machine_learning", ""),
        ("https://host", "https://host/#/experiments/1/runs/ab?workflowType=machine_learning", ""),
    ],
)
def test_the_link_opens_the_pages_of_model_training(store: str, page: str, command: str) -> None:
    assert run_page(store, "1", "ab") == (page, command)


def test_the_page_that_compares_runs_has_their_ids() -> None:
    runs = [Run(uri="", experiment_id="1", run_id=name) for name in ("a", "b")]
    expected = "#/compare-runs?runs=%5B%22a%22%2C%22b%22%5D&experiments=%5B%221%22%5D"
    assert comparison_address(runs) == expected
