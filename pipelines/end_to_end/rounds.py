"""Rounds of self-training: relabel with the trained segmenter, assess the new masks, and train on them."""

from collections.abc import Iterator
from dataclasses import replace

from pipelines import relabel, train
from pipelines.end_to_end.config import MaskSplitJobConfig
from pipelines.runtime.job import Job
from pipelines.runtime.result import JobResult
from pipelines.training.config import TrainJobConfig


def run_rounds(
    config: MaskSplitJobConfig, train_config: TrainJobConfig, training: JobResult, job: Job
) -> Iterator[tuple[str, JobResult]]:
    """Yield the name of each round and the result of its training, until the masks of a round fail the gate.

    Args:
        config: settings of the main job.
        train_config: settings of the first training; later trainings only have another mask set.
        training: result of the first training.
        job: the main job; its result gets the metrics, counts and outputs of every round, prefixed with its name.
    """
    result, mask_set = job.result, train_config.mask_set
    for number in range(1, config.rounds + 1):
        name = f"round-{number}"
        with job.timed(f"{name}: masks"):
            relabel_config = config.relabel_job(
                collection=train_config.collection,
                model=training.outputs["model"],
                mask_set=mask_set,
                output_mask_set=name,
            )
            masks = relabel.run(relabel_config, parent=job.run)
        result.counts[f"{name}: accepted masks"] = masks.counts["accepted"]
        result.metrics |= {f"{name}: {metric}": value for metric, value in masks.metrics.items()}
        result.verdicts |= {f"{name} {key}": verdict for key, verdict in masks.verdicts.items()}
        result.outputs |= {f"{name}: {output}": masks.outputs[output] for output in ("mask set", "drift", "decision")}
        if masks.outputs["decision"] != "proceed":
            return
        with job.timed(f"{name}: training"):
            training = train.run(replace(train_config, mask_set=name), parent=job.run)
        result.metrics |= {f"{name}: {metric}": value for metric, value in training.metrics.items()}
        result.outputs[f"{name}: model"] = training.outputs["model"]
        mask_set = name
        yield name, training
