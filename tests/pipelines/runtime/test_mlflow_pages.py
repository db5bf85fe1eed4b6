"""MLflow's pages in a browser: what the text of each page says about the runs of a small sweep and an evaluation.

The browser is Chromium, which prints a page's document after its scripts have run. ``FSS_SCREENSHOTS`` names a folder
for pictures of the pages at widths 1280 and 1920.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import pytest

from fss.models.config import SegmenterConfig
from fss.tracking.run import tracking_client
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from pipelines import evaluate, train
from pipelines.evaluation.config import EvaluateJobConfig
from pipelines.runtime.config import TrackingConfig
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig
from tests.helpers.http_process import BIN, free_port, process

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine"),
]
WIDTHS = (1280, 1920)
Page = Callable[[str], str]


@pytest.fixture(scope="module")
def jobs(
    paint: Callable[..., str],
    paint_masked: Callable[..., str],
    tmp_path_factory: pytest.TempPathFactory,
    ray_local: None,
) -> tuple[JobResult, JobResult]:
    """A training, and an evaluation of its model."""
    home = tmp_path_factory.mktemp("pages")
    tracking = TrackingConfig(uri=f"sqlite:///{home}/mlflow.db")
    trained = train.run(
        TrainJobConfig(
            collection=paint_masked(home / "birds", count=24),
            output=str(home / "models"),
            segmenter=SegmenterConfig(backbone="timm:test_resnet.r160_in1k", image_size=80, width=32),
            stream=StreamConfig(batch_size=4, lanes=2, held_out=0.2),
            optimizer=OptimizerConfig(steps=4, learning_rate=1e-3),
            checkpoint_every=2,
            log_every=1,
            tracking=tracking,
        )
    )
    evaluated = evaluate.run(
        EvaluateJobConfig(
            model=trained.outputs["model"],
            collection=paint(home / "labelled", count=24, labelled=True),
            output=str(home / "results"),
            episodes=6,
            shots=(1,),
            skip_small_classes=True,
            workers=0,
            tracking=tracking,
        )
    )
    return trained, evaluated


@pytest.fixture(scope="module")
def page(jobs: tuple[JobResult, JobResult], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A function that returns the text of a page of MLflow, by the part of its address after the server."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    command = [str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with process(*command, "--backend-store-uri", store_of(jobs[0]), port=port, log=log) as server:
        yield lambda address: open_page(f"{server}/{address}")


def open_page(url: str) -> str:
    """Return the text of a page, without tags."""
    texts = []
    for width in WIDTHS:
        command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        command += [f"--window-size={width},1200", "--virtual-time-budget=20000"]
        if folder := os.environ.get("FSS_SCREENSHOTS"):
            name = re.sub(r"\W+", "-", url.partition("#")[2])[:120]
            picture = Path(folder) / f"{name}-{width}.png"
            subprocess.run([*command, f"--screenshot={picture}", url], check=True, capture_output=True, timeout=180)
        dumped = subprocess.run([*command, "--dump-dom", url], check=True, capture_output=True, text=True, timeout=180)
        texts.append(re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", dumped.stdout, flags=re.DOTALL))
    return unescape(" ".join(" ".join(texts).split()))


def store_of(result: JobResult) -> str:
    """The URI of the store that a job's command serves."""
    return result.run_server.removeprefix("mlflow ui --backend-store-uri ")


def address(result: JobResult, tab: str = "") -> str:
    """The part of a run's address after the server, with another tab of the page."""
    before, _, query = result.run_page.partition("/#/")[2].partition("?")
    return f"#/{before}{tab}?{query}"


def test_the_link_of_a_job_opens_its_description(jobs: tuple[JobResult, JobResult], page: Page) -> None:
    text = page(address(jobs[1]))
    assert "Description Verdict : the model is " in text
    for words in ("Charts of the model beside its baselines", "saliency of the query", "1-shot: 6 episodes", "Outputs"):
        assert words in text, words
    assert "evaluate sample-labelled test_resnet.r160_in1k 6 episodes (" in text
    assert "fss.ahead_of_all" in text and "fss.learner" in text


def test_metrics_stand_in_groups(jobs: tuple[JobResult, JobResult], page: Page) -> None:
    text = page(address(jobs[0], "/model-metrics"))
    groups = [group for group in ("kept", "speed", "total", "train", "val") if re.search(rf" {group} \(\d+\)", text)]
    assert groups == ["kept", "speed", "total", "train", "val"]
    text = page(address(jobs[1], "/model-metrics"))
    assert re.search(r" eval/1-shot \(\d+\)", text) and re.search(r" eval/1-shot/baselines \(12\)", text)


def test_the_runs_have_names_data_and_models(jobs: tuple[JobResult, JobResult], page: Page) -> None:
    experiment = address(jobs[0]).partition("/runs/")[0]
    text = page(f"{experiment}/runs?workflowType=machine_learning")
    assert "train sample-labelled test_resnet.r160_in1k 4 steps (" in text
    assert "sample-labelled/saliency (" in text and "sample-labelled/truth (" in text


def test_the_page_of_the_model_has_its_metrics_and_data(jobs: tuple[JobResult, JobResult], page: Page) -> None:
    model = jobs[0].outputs["served model"].removeprefix("models:/")
    text = page(f"{address(jobs[0]).partition('/runs/')[0]}/models/{model}?workflowType=machine_learning")
    assert "kept/held_out_iou" in text and "eval/1-shot/mIoU" in text
    assert "Datasets used None" not in text
    assert "sample-labelled/saliency (#" in text and "sample-labelled/truth (#" in text


def test_a_chart_shows_the_model_beside_its_baselines(jobs: tuple[JobResult, JobResult], page: Page) -> None:
    description = tracking_client(store_of(jobs[0])).get_run(jobs[1].run_id).data.tags["mlflow.note.content"]
    link = re.search(r"\[Charts [^]]+\]\(([^)]+)\)", description)
    assert link is not None
    text = page(link[1])
    assert "baseline: untrained prototype" in text and "eval/1-shot/mIoU" in text
