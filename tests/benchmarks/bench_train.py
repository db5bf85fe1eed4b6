"""Benchmarks of training: training steps with their wait for data, and one worker against two.

    python -m tests.benchmarks.bench_train steps --collection C --learner masksplit --backbone resnet50 --size 400
    python -m tests.benchmarks.bench_train steps --collection C --precision bf16 --compile --batch 16   # on a GPU
    python -m tests.benchmarks.bench_train parts --collection C --learner hsnet                            # on a CPU
    python -m tests.benchmarks.bench_train workers --collection C --weights mobilenet_v2.pth --output /tmp/workers

``C`` is a collection with a mask set (``--mask-set saliency``). ``steps`` runs the training loop and prints the time of
a step, the share of it spent waiting for data, episodes per second and peak GPU memory. ``parts`` prints the share of
data, augmentation, forward pass, backward pass and update in the step of a CPU, without reading ahead. ``workers`` runs
the training job with one worker, with two, and with one that is killed and restarted, and prints the largest difference
between their losses. Loaders are measured by ``bench_loader.py``.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from fss.collection import Collection
from fss.episodes.config import AugmentConfig, SplitConfig
from fss.models import create_segmenter
from fss.models.config import Precision
from fss.models.speed import prepare_training
from fss.training.few_shot.config import OptimizerConfig, StreamConfig
from fss.training.few_shot.loop import TrainLoop
from fss.training.few_shot.mask_split_stream import MaskSplitStream

WARM_UP = 2  # steps before the measured ones


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training data."""

    collection: str
    """URI of the collection."""
    mask_set: str = "saliency"
    """Name of the mask set."""
    batch: int = 16
    """Episodes per step."""
    threads: int = 2
    """Number of decoding threads."""

    def open(self, size: int, ahead: int) -> MaskSplitStream:
        """Open a stream of MaskSplit episodes."""
        collection = Collection.open(self.collection)
        return MaskSplitStream(
            collection,
            collection.mask_set(self.mask_set),
            image_size=size,
            stream=StreamConfig(batch_size=self.batch, decode_threads=self.threads, ahead=ahead),
            split=SplitConfig(),
            augment=AugmentConfig(),
        )


@dataclass(frozen=True, kw_only=True)
class Steps(Data):
    """Options of ``steps``."""

    learner: str = "masksplit"
    masking: str = "feature"
    backbone: str = "resnet50"
    size: int = 400
    """Side in pixels of the network's input."""
    steps: int = 10
    """Number of measured steps, after those of the warm-up."""
    precision: Precision = "fp32"
    compile: bool = False
    device: str = "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def title(self) -> str:
        """Return what is trained, and where."""
        compiled = ", compiled" if self.compile else ""
        network = f"{self.learner} {self.masking} {self.backbone} {self.size} px"
        return f"{network}, batch {self.batch}, {self.precision}{compiled} on {self.device}"

    def loop(self, ahead: int = StreamConfig().ahead) -> TrainLoop:
        """Return the training of a segmenter with a frozen backbone, which has done no step."""
        stream = self.open(self.size, ahead)
        segmenter = create_segmenter(
            learner=self.learner, masking=self.masking, backbone=self.backbone, image_size=self.size
        )
        segmenter.backbone.freeze()
        segmenter.to(self.device)
        config = OptimizerConfig(steps=self.steps + WARM_UP, precision=self.precision)
        loop = TrainLoop(segmenter, stream, config, device=self.device)
        loop.precision = prepare_training(segmenter, self.precision, compile=self.compile).autocast
        return loop


PARTS = ("data", "augmentation", "forward", "backward", "update")
"""Parts of a step in their order: the update is that of the weights and their moving average."""


@dataclass(frozen=True, kw_only=True)
class Workers(Data):
    """Options of ``workers``."""

    output: Path
    """Folder of the trainings."""
    backbone: str = "mobilenet_v2"
    weights: str | None = None
    size: int = 128
    steps: int = 40


def measure_steps(options: tyro.conf.OmitArgPrefixes[Steps]) -> None:
    """Measure the time, the wait for data and the memory of training steps."""
    reports = list(options.loop().run())[WARM_UP:]
    step = statistics.median(report.wait_s + report.compute_s for report in reports)
    wait_share = sum(report.wait_s for report in reports) / sum(r.wait_s + r.compute_s for r in reports)
    text = f"{options.title}: {step:.3f} s a step, {options.batch / step:.1f} episodes/s, "
    text += f"waiting for data {100 * wait_share:.1f} %"
    if options.device == "cuda":
        text += f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    print(text, flush=True)


def measure_parts(options: tyro.conf.OmitArgPrefixes[Steps]) -> None:
    """Measure the parts of training steps on a CPU, which does one after the other."""
    loop = options.loop(ahead=0)
    ends: list[float] = []
    for register in (loop.model.register_forward_pre_hook, loop.model.register_forward_hook):
        register(lambda *_: ends.append(time.perf_counter()))
    loop.optimizer.register_step_pre_hook(lambda *_: ends.append(time.perf_counter()))
    rows = []
    for report in loop.run():
        end = time.perf_counter()
        start = end - report.compute_s
        rows.append([start - report.wait_s, start, *ends, end])
        ends.clear()
    seconds = np.median(np.diff(rows[WARM_UP:], axis=1), axis=0)
    shares = ", ".join(f"{name} {s:.3f} s ({s / seconds.sum():.0%})" for name, s in zip(PARTS, seconds, strict=True))
    print(f"{options.title}: {seconds.sum():.3f} s a step: {shares}", flush=True)


def measure_workers(options: tyro.conf.OmitArgPrefixes[Workers]) -> None:
    """Compare a training by one worker with one by two workers and one that is killed and resumed."""
    curves = {}
    for name, workers in (("one", 1), ("two", 2), ("killed", 1)):
        command = training(options, name, workers)
        start = time.perf_counter()
        if name == "killed":
            kill(command, options.output / "ray" / name)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        curves[name] = curve(options.output, name)
        print(f"{name}: {time.perf_counter() - start:.0f} s, loss {curves[name][0]:.4f} -> {curves[name][-1]:.4f}")
    for name in ("two", "killed"):
        assert len(curves[name]) == len(curves["one"]) == options.steps, "a step is missing or was logged twice"
        gap = max(abs(a - b) for a, b in zip(curves["one"], curves[name], strict=True))
        print(f"one against {name}: largest difference of the loss over {options.steps} steps {gap:.1e}", flush=True)


def training(options: Workers, name: str, workers: int) -> list[str]:
    """Return the command line of a training."""
    settings = {
        "collection": options.collection,
        "mask-set": options.mask_set,
        "output": options.output,
        "name": name,
        "backbone": options.backbone,
        "image-size": options.size,
        "steps": options.steps,
        "learning-rate": 1e-3,
        "batch-size": options.batch,
        "checkpoint-every": options.steps // 4,
        "log-every": 1,
        "workers": workers,
        "tracking.uri": f"sqlite:///{options.output.absolute()}/mlflow.db",
    }
    if options.weights:
        settings["backbone-weights"] = options.weights
    words = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
    return [sys.executable, "-m", "pipelines.train", *words]


def kill(command: list[str], snapshots: Path) -> None:
    """Start a training and kill it at its second checkpoint."""
    job = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    while len(list(snapshots.glob("checkpoint_*/progress.json"))) < 2:
        assert job.poll() is None, "the training ended before it could be killed"
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def curve(output: Path, name: str) -> list[float]:
    """Return the losses of a training in the order of its steps."""
    from mlflow import MlflowClient

    run_id = json.loads((output / name / "summary.json").read_text())["run_id"]
    points = MlflowClient(f"sqlite:///{output.absolute()}/mlflow.db").get_metric_history(run_id, "train/loss")
    return [point.value for point in sorted(points, key=lambda point: point.step)]


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"steps": measure_steps, "parts": measure_parts, "workers": measure_workers})
