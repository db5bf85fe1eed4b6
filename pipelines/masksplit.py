"""The main job, end to end: photographs in, pseudo-masks, self-supervised training, few-shot evaluation.

    python -m pipelines.masksplit
    python -m pipelines.masksplit --photographs ~/photos --evaluation ~/FSS-1000 --weights pretrained
    python -m pipelines.masksplit --photographs s3://bucket/photos --workdir s3://bucket/work --limit 10000

Without arguments it paints a sample collection and trains a small model on it in a few minutes. Everything goes into
the working directory; a job that was stopped goes on where it was, and a finished one does nothing.
"""

from dataclasses import dataclass, field, replace

from fss.collection import files
from fss.config import config_hash, to_dict
from fss.episodes.augment import AugmentConfig
from fss.episodes.split import SplitConfig
from fss.models import SegmenterConfig
from fss.saliency import SaliencyConfig
from fss.tracking import Run
from fss.training.loop import TrainConfig
from fss.training.stream import StreamConfig
from pipelines import evaluate, ingest, pseudomask, train
from pipelines.common.inputs import Input, evaluation_input, photographs_input
from pipelines.common.presets import preset_for
from pipelines.common.ray_session import ray_session
from pipelines.common.runs import TrackingConfig, job_run
from pipelines.common.summary import Summary, cli_main, dry_run_summary, finished_before
from pipelines.common.train_config import TrainJobConfig
from pipelines.common.trainer import ScaleConfig

JOB = "masksplit"


@dataclass(frozen=True, kw_only=True)
class MaskSplitJobConfig:
    """Settings of the main job. What is left out depends on the input: small for the sample, as published otherwise."""

    photographs: str | None = None
    """Photographs to learn from: a folder, an s3:// URI, or a collection that exists; None: the painted sample."""
    evaluation: str | None = None
    """Labelled pictures to evaluate on: <class>/<n>.jpg with .png masks (FSS-1000), images/ beside masks/, or a
    collection that exists; None: the painted sample's, or no evaluation of your own photographs."""
    evaluation_classes: str | None = None
    """Class split to evaluate on; None: novel or test where there is one, else all classes."""
    workdir: str = "runs/masksplit"
    """Where everything goes: local folder or s3:// URI."""
    backbone: str | None = None
    """Backbone: resnet18, resnet50, resnet101, resnet101_deepstem, mobilenet_v2, vgg16, or a timm name."""
    weights: str | None = None
    """Backbone weights: a state dict's path, or "pretrained" to download the library's; None: random."""
    image_size: int | None = None
    """Side of the square that the network sees, in pixels."""
    steps: int | None = None
    """Training steps."""
    batch: int | None = None
    """Episodes per step."""
    learning_rate: float | None = None
    """Learning rate of Adam."""
    episodes: int | None = None
    """Evaluation episodes per plan."""
    shots: tuple[int, ...] = (1, 5)
    """Supports per evaluation episode, one plan for each."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """How pseudo-masks are found."""
    accept_quantile: float = 0.65
    """Share of the pseudo-masks to train on, best first."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How masks are cut in two; the sample has settings of its own, where these are left as they are."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How views are drawn; the sample has settings of its own, where these are left as they are."""
    seed: int = 0
    """Seed of everything."""
    limit: int | None = None
    """Use only the first so many photographs."""
    workers: int | None = None
    """Parts at a time in the data stages; None: one per core, or what the cluster offers."""
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    """On what the training runs."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Where runs are recorded."""
    dry_run: bool = False
    """Say what would be done, and stop."""
    overwrite: bool = False
    """Do everything again."""


def run(config: MaskSplitJobConfig) -> Summary:
    """Run all stages; finished stages are kept, and a finished job does nothing.

    Raises:
        ValueError: inputs that are not there or don't fit the settings.
    """
    if config.limit is not None and config.limit < 1:
        raise ValueError(f"limit is 1 or more photographs, got {config.limit}")
    workdir = files.normalise(config.workdir)
    photographs = photographs_input(config.photographs, workdir, config.limit, config.seed)
    labelled = evaluation_input(config.evaluation, config.photographs, workdir, config.seed)
    trained = train_config(config, photographs)
    key = config_hash([JOB, photographs.identity, labelled and labelled.identity], _work(config))
    if config.dry_run:
        plan: dict[str, object] = {"photographs": photographs.describe()}
        plan |= {"evaluation": labelled.describe() if labelled else "none"}
        plan |= {"backbone": trained.segmenter.backbone, "image size": trained.segmenter.image_size}
        plan |= {"training steps": trained.training.steps, "episodes per step": trained.stream.batch}
        return dry_run_summary(JOB, config, plan)
    if not config.overwrite and (done := finished_before(workdir, key)):
        return done
    summary = Summary(job=JOB, inputs={"photographs": photographs.describe(), "key": key})
    with (
        job_run(JOB, key=key, tracking=config.tracking, params=to_dict(config), fresh=config.overwrite) as record,
        ray_session(),
    ):
        summary.run_id = record.run_id
        _run_stages(config, photographs, labelled, trained, summary, record)
        numbers = {name: float(value) for name, value in summary.figures.items()}
        record.log_metrics({name.replace(" ", "_"): value for name, value in numbers.items()})
        summary.write(workdir)
        record.log_json("summary.json", to_dict(summary))
    return summary


def train_config(config: MaskSplitJobConfig, photographs: Input) -> TrainJobConfig:
    """Return the settings of the training: the preset for the input, with what the user has chosen."""
    preset = preset_for(sample=config.photographs is None)
    names = ("backbone", "image_size", "steps", "batch", "learning_rate", "split", "augment")
    untouched = (None, SplitConfig(), AugmentConfig())
    chosen = {name: getattr(config, name) for name in names if getattr(config, name) not in untouched}
    preset = replace(preset, **chosen)
    return TrainJobConfig(
        collection=photographs.collection,
        output=files.join(files.normalise(config.workdir), "models"),
        segmenter=SegmenterConfig(
            backbone=preset.backbone,
            weights=config.weights,
            image_size=preset.image_size,
            width=preset.width,
            similarity=preset.similarity,
            seed=config.seed,
        ),
        stream=StreamConfig(batch=preset.batch, lanes=preset.lanes, held_out=preset.held_out, seed=config.seed),
        split=preset.split,
        augment=preset.augment,
        training=TrainConfig(steps=preset.steps, learning_rate=preset.learning_rate, ema=preset.ema),
        checkpoint_every=max(1, min(preset.checkpoint_every, preset.steps)),
        scale=config.scale,
        tracking=config.tracking,
        overwrite=config.overwrite,
    )


def _run_stages(
    config: MaskSplitJobConfig,
    photographs: Input,
    labelled: Input | None,
    trained: TrainJobConfig,
    summary: Summary,
    record: Run,
) -> None:
    # Stage 1: photographs (and the labelled pictures) into collections.
    for name, source in (("photographs", photographs), ("evaluation pictures", labelled)):
        if source is not None and source.source is not None:
            made = _ingest(config, source, record, summary)
            summary.counts |= {f"{name}: {key}": made.counts[key] for key in ("usable", "quarantined")}
    # Stage 2: pseudo-masks.
    with summary.timed("pseudo-masks"):
        masks = pseudomask.run(_pseudomask_config(config, photographs), parent=record)
    summary.counts |= {"accepted pseudo-masks": masks.counts["accepted"]}
    summary.outputs |= masks.outputs
    # Stage 3: training.
    with summary.timed("training"):
        training = train.run(trained, parent=record)
    summary.counts |= {"training steps": training.counts["steps"], "kept step": training.counts["kept step"]}
    summary.figures |= training.figures
    summary.outputs |= training.outputs
    # Stage 4: evaluation.
    if labelled is None:
        return
    with summary.timed("evaluation"):
        result = evaluate.run(_evaluate_config(config, labelled, training, trained), parent=record)
    summary.counts |= {"evaluation episodes": result.counts["episodes"]}
    summary.figures |= result.figures
    summary.inputs |= {name: value for name, value in result.inputs.items() if name.endswith("plan")}
    summary.outputs |= result.outputs
    summary.report = result.report


def _ingest(config: MaskSplitJobConfig, source: Input, record: Run, summary: Summary) -> Summary:
    assert source.source is not None
    settings = ingest.IngestConfig(
        collection=source.collection,
        source=source.source,
        part_size=source.part_size,
        limit=source.limit,
        workers=config.workers,
        tracking=config.tracking,
        overwrite=config.overwrite,
    )
    with summary.timed("ingest"):
        return ingest.run(settings, parent=record)


def _pseudomask_config(config: MaskSplitJobConfig, photographs: Input) -> pseudomask.PseudomaskConfig:
    return pseudomask.PseudomaskConfig(
        collection=photographs.collection,
        saliency=config.saliency,
        accept_quantile=config.accept_quantile,
        workers=config.workers,
        seed=config.seed,
        tracking=config.tracking,
        overwrite=config.overwrite,
    )


def _evaluate_config(
    config: MaskSplitJobConfig, labelled: Input, training: Summary, trained: TrainJobConfig
) -> evaluate.EvaluateConfig:
    return evaluate.EvaluateConfig(
        checkpoint=training.outputs["model"],
        collection=labelled.collection,
        output=files.join(files.normalise(config.workdir), "results", training.inputs["name"]),
        classes=config.evaluation_classes or labelled.default_split(),
        episodes=config.episodes or preset_for(sample=config.photographs is None).episodes,
        shots=config.shots,
        seed=config.seed,
        saliency=config.saliency,
        workers=config.workers,
        tracking=config.tracking,
        overwrite=config.overwrite,
    )


def _work(config: MaskSplitJobConfig) -> dict[str, object]:
    without = {"workers", "scale", "tracking", "dry_run", "overwrite"}
    return {name: value for name, value in to_dict(config).items() if name not in without}


def main() -> None:
    """Run from the command line."""
    cli_main(MaskSplitJobConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
