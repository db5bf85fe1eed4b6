"""Rounds of self-training: make the masks again with the trained segmenter, judge them, and train on them anew."""

from collections.abc import Iterator
from dataclasses import replace

from fss.tracking.run import Run
from pipelines import relabel, train
from pipelines.end_to_end.config import RoundsConfig
from pipelines.relabeling.config import RelabelJobConfig
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig


def run_rounds(
    rounds: int,
    config: RoundsConfig,
    trained: TrainJobConfig,
    training: JobResult,
    *,
    workers: int | None,
    seed: int,
    summary: JobResult,
    record: Run,
) -> Iterator[tuple[str, JobResult]]:
    """Yield the name of each round with the summary of its training, as long as its masks are worth one.

    Args:
        rounds: at most so many.
        config: how.
        trained: settings of the first training; those of the rounds differ in their mask set alone.
        training: its summary.
        workers: parts at a time.
        seed: of the reports.
        summary: gets metrics, counts and outputs of every round under its name.
        record: the parent run.
    """
    source = trained.mask_set
    for number in range(1, rounds + 1):
        name = f"round-{number}"
        with summary.timed(f"{name}: masks"):
            masks = relabel.run(
                RelabelJobConfig(
                    collection=trained.collection,
                    checkpoint=training.outputs["model"],
                    source=source,
                    source_acceptance=trained.acceptance,
                    name=name,
                    relabel=config.relabel,
                    accept_quantile=config.accept_quantile,
                    go=config.go,
                    audit=config.audit,
                    device=config.device,
                    workers=workers,
                    seed=seed,
                    tracking=trained.tracking,
                    overwrite=trained.overwrite,
                ),
                parent=record,
            )
        summary.counts[f"{name}: accepted masks"] = masks.counts["accepted"]
        summary.metrics |= {f"{name}: {figure}": value for figure, value in masks.metrics.items()}
        summary.outputs |= {f"{name}: {what}": masks.outputs[what] for what in ("mask set", "drift", "decision")}
        if masks.outputs["decision"] != "proceed":
            return
        with summary.timed(f"{name}: training"):
            training = train.run(replace(trained, mask_set=name), parent=record)
        summary.metrics |= {f"{name}: {figure}": value for figure, value in training.metrics.items()}
        summary.outputs[f"{name}: model"] = training.outputs["model"]
        source = name
        yield name, training
