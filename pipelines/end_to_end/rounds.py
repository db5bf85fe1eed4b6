"""Rounds of self-training: make the masks again with the trained segmenter, judge them, and train on them anew."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from fss.relabel import RelabelConfig
from fss.relabel.round_gate import GoConfig
from fss.tracking.run import Run
from pipelines import relabel, train
from pipelines.relabeling.config import RelabelJobConfig
from pipelines.runtime.result import Summary
from pipelines.training.config import TrainJobConfig


def own_masks() -> RelabelConfig:
    """Return how rounds make masks again where nothing else is asked for.

    What served best on photographs with a truth to audit by: each picture's own mask, in halves, as support, as in
    training; a low threshold, because the network learned to find the other half and is unsure of a whole object; and
    outlines that follow the picture's edges.
    """
    return RelabelConfig(supports="self", foreground=0.25, background=0.25, edges=True)


@dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """How rounds go on."""

    relabel: RelabelConfig = field(default_factory=own_masks)
    """Supports, views, and what becomes of the votes."""
    accept_quantile: float = 0.65
    """Share of the new masks to train on, best first within every cluster of alike pictures."""
    go: GoConfig = field(default_factory=GoConfig)
    """What new masks have to show; the first round that does not is the last, and is not trained on."""
    audit: str | None = None
    """Mask set with the truth of some of the photographs: the rounds stop when it does not surely rise. Nothing else
    reads it."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where relabelling runs."""

    def __post_init__(self) -> None:
        if self.relabel.supports == "bank":
            raise ValueError(
                "rounds know no labelled shots: take supports neighbours or self, or run pipelines.relabel"
            )


def run_rounds(
    rounds: int,
    config: RoundsConfig,
    trained: TrainJobConfig,
    training: Summary,
    *,
    workers: int | None,
    seed: int,
    summary: Summary,
    record: Run,
) -> Iterator[tuple[str, Summary]]:
    """Yield the name of each round with the summary of its training, as long as its masks are worth one.

    Args:
        rounds: at most so many.
        config: how.
        trained: settings of the first training; those of the rounds differ in their mask set alone.
        training: its summary.
        workers: parts at a time.
        seed: of the reports.
        summary: gets figures, counts and outputs of every round under its name.
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
        summary.figures |= {f"{name}: {figure}": value for figure, value in masks.figures.items()}
        summary.outputs |= {f"{name}: {what}": masks.outputs[what] for what in ("mask set", "drift", "verdict")}
        if masks.outputs["verdict"] != "go":
            return
        with summary.timed(f"{name}: training"):
            training = train.run(replace(trained, mask_set=name), parent=record)
        summary.figures |= {f"{name}: {figure}": value for figure, value in training.figures.items()}
        summary.outputs[f"{name}: model"] = training.outputs["model"]
        source = name
        yield name, training
