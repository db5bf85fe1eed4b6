"""Evaluate a segmenter on a labelled collection, with what it has to beat in the same table.

    python -m pipelines.evaluate --checkpoint runs/<name>/model --collection my-labelled-collection --output results

Writes the episode plans, the table (Markdown and JSON), overlays of fixed episodes and summary.json. Every figure names
its plan. The same model on the same plans is not evaluated twice.
"""

from dataclasses import dataclass, field
from typing import Any

import ray

from fss.collection import ClassIndex, Collection, ImageReader, files
from fss.config import config_hash, to_dict
from fss.episodes.canvas import image_canvas, mask_canvas
from fss.episodes.plan import EpisodePlan, make_plan
from fss.evaluation.report import Row, rows, to_json, to_markdown, to_text
from fss.evaluation.run import EvaluationResult
from fss.figures import EpisodeView, episode_sheet, png_bytes
from fss.models.checkpoint import read_description
from fss.saliency import SaliencyConfig
from fss.tracking import Run
from pipelines.common.checkpoints import checkpoint_hash, local_copy
from pipelines.common.evaluate_task import MODEL, EvaluationJob, evaluate_share, join
from pipelines.common.ray_session import available_cores, count_cpus, count_gpus, is_local, ray_session
from pipelines.common.runs import TrackingConfig, job_run
from pipelines.common.state import clear
from pipelines.common.summary import Summary, cli_main, dry_run_summary, finished_before

JOB = "evaluate"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Settings of the evaluation job."""

    checkpoint: str
    """Folder of the model: local or s3:// URI."""
    collection: str
    """A labelled collection."""
    output: str
    """Folder of the results."""
    truth: str = "truth"
    """Mask set that holds the ground truth."""
    classes: str | None = None
    """Class split to evaluate on, such as novel or test; None: all classes."""
    episodes: int = 1000
    """Episodes per plan."""
    shots: tuple[int, ...] = (1, 5)
    """Supports per episode; one plan for each. All plans have the same queries."""
    seed: int = 0
    """Seed of the plans."""
    min_pixels: int = 1
    """Pictures that show less of a class are no episodes of it."""
    size: int | None = None
    """Pixels a side at which pictures are seen and scored; None: the model's."""
    baselines: bool = True
    """Evaluate all foreground, the query's saliency and the untrained prototype too."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """Of the saliency baseline."""
    figures: int = 8
    """Episodes to draw, the first of each plan."""
    workers: int | None = None
    """Tasks at a time; None: one per GPU, or per core where there is none."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where the run is recorded."""
    dry_run: bool = False
    """Say what would be done, and stop."""
    overwrite: bool = False
    """Evaluate again, also where the result is there."""


def run(config: EvaluateConfig, *, parent: Run | None = None) -> Summary:
    """Evaluate; a finished evaluation of the same model, plans and settings does nothing.

    Raises:
        ValueError: no such checkpoint, collection, mask set or class split, or too few pictures of a class.
    """
    with local_copy(config.checkpoint) as folder:
        size = config.size or int(read_description(folder)["segmenter"]["image_size"])
        model = checkpoint_hash(folder)
    plans = make_plans(config)
    key = config_hash([JOB, model, [plan.hash for plan in plans], size, config.baselines], config.saliency)
    home = files.normalise(config.output)
    hashes = {f"{plan.shots}-shot plan": plan.hash for plan in plans}
    if config.dry_run:
        return dry_run_summary(JOB, config, {"episodes": sum(map(len, plans)), **hashes})
    if config.overwrite:
        clear(home)
    if done := finished_before(home, key):
        return done
    inputs = {"checkpoint": files.normalise(config.checkpoint), "model": model, "key": key, **hashes}
    summary = Summary(job=JOB, inputs={**inputs, "collection": files.normalise(config.collection)})
    tags = {"fss.model": model, **{f"fss.plan_{plan.shots}shot": plan.hash for plan in plans}}
    with (
        job_run(
            JOB,
            key=key,
            tracking=config.tracking,
            parent=parent,
            params=to_dict(config),
            tags=tags,
            fresh=config.overwrite,
        ) as record,
        ray_session(),
    ):
        summary.run_id = record.run_id
        with summary.timed("evaluation"):
            results = _evaluate(config, plans, size)
        with summary.timed("report"):
            _report(config, results, summary, record, home)
        summary.write(home)
        record.log_json("summary.json", to_dict(summary))
    return summary


def make_plans(config: EvaluateConfig) -> list[EpisodePlan]:
    """Draw the plans of an evaluation: the same for every model."""
    collection = Collection.open(config.collection)
    splits = collection.class_splits
    if config.classes is not None and config.classes not in splits:
        known = ", ".join(splits) or "none"
        raise ValueError(f"the collection {collection.uri} has no class split {config.classes!r}; it has {known}")
    index = ClassIndex.build(collection.mask_set(config.truth), min_pixels=config.min_pixels)
    fingerprint = collection.fingerprint()
    return [
        make_plan(
            index,
            classes=None if config.classes is None else splits[config.classes],
            episodes=config.episodes,
            shots=shots,
            seed=config.seed,
            fingerprint=fingerprint,
        )
        for shots in config.shots
    ]


def _evaluate(config: EvaluateConfig, plans: list[EpisodePlan], size: int) -> list[EvaluationResult]:
    job = EvaluationJob(
        checkpoint=files.normalise(config.checkpoint),
        collection=files.normalise(config.collection),
        truth=config.truth,
        plans=tuple(plans),
        size=size,
        baselines=config.baselines,
        saliency=config.saliency,
        keep=config.figures,
    )
    gpus = count_gpus()
    places = gpus or (available_cores() if is_local() else count_cpus())
    shares = min(config.workers or places, config.episodes)
    task = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(evaluate_share)
    device, threads = ("cuda", 4) if gpus else ("cpu", 1)
    parts = ray.get([task.remote(job, share, shares, device, threads) for share in range(shares)])
    return [join(plan, [part[number] for part in parts]) for number, plan in enumerate(plans)]


def _report(config: EvaluateConfig, results: list[EvaluationResult], summary: Summary, record: Run, home: str) -> None:
    table = rows(results, model=MODEL)
    summary.report = to_text(table)
    summary.counts = {"episodes": sum(len(result.plan) for result in results), "classes": len(results[0].plan.classes)}
    summary.figures = figures(table)
    summary.outputs = {"results": home}
    for result in results:
        result.plan.save(files.join(home, f"plan-{result.plan.shots}shot.parquet"))
        sheet = _sheet(config, result)
        _write(home, f"episodes-{result.plan.shots}shot.png", png_bytes(sheet))
        record.log_figure(f"episodes-{result.plan.shots}shot.png", sheet)
    _write(home, "table.md", to_markdown(table).encode())
    _write(home, "table.json", to_json(table).encode())
    record.log_text("table.md", to_markdown(table))
    record.log_metrics({name.replace(" ", "_"): value for name, value in summary.figures.items()})


def figures(table: list[Row]) -> dict[str, float]:
    """Return the figures of a table by name, for people and MLflow: ``1-shot/model/mIoU``."""
    found = {}
    for row in table:
        for key, title in (("miou", "mIoU"), ("episode_miou", "per-episode mIoU"), ("fb_iou", "FB-IoU")):
            found[f"{row['shots']}-shot/{row['method']}/{title}"] = round(float(row[key]), 4)
    return found


def _sheet(config: EvaluateConfig, result: EvaluationResult) -> Any:
    """Draw the first episodes with the model's predictions."""
    collection = Collection.open(config.collection)
    reader = ImageReader(collection, collection.mask_set(config.truth))
    views = []
    for episode in result.plan.episodes[: config.figures]:
        pairs = [reader.read_binary(name, episode.class_id) for name in (episode.query_id, *episode.support_ids)]
        square = [(image_canvas(rgb, result.size), mask_canvas(mask, result.size)) for rgb, mask in pairs]
        (query, truth), supports = square[0], square[1:]
        prediction = result.kept[MODEL][episode.number]
        name = collection.classes.get(episode.class_id, str(episode.class_id))
        counts = result.counts[MODEL][episode.number]
        caption = f"{name}  IoU {counts[0, 1] / max(1, counts[1, 1]):.2f}"
        views.append(EpisodeView(query=query, truth=truth, prediction=prediction, supports=supports, caption=caption))
    return episode_sheet(views, title=f"{result.plan.shots}-shot, plan {result.plan.hash}: support, truth, prediction")


def _write(home: str, name: str, data: bytes) -> None:
    files.write_atomically(*files.resolve(files.join(home, name)), data)


def main() -> None:
    """Run from the command line."""
    cli_main(EvaluateConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
