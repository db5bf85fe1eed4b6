"""Evaluate a segmenter on a labelled collection, with four baselines in the same table.

    python -m pipelines.evaluate --model runs/<name>/model --collection my-labelled-collection --output results
    python -m pipelines.evaluate --model models:/<id> --collection fss1000 --benchmark fss --output results
    python -m pipelines.evaluate --model hsnet/fold0.pt --learner hsnet --masking feature --backbone resnet50 \\
        --collection voc-val --benchmark pascal --fold 0 --protocol hsnet --split-folder splits --output results
    python -m pipelines.evaluate --learner density --saliency-prior FILE --collection fss1000 --output results

Every metric belongs to a saved episode plan. The same model is not evaluated on the same plans twice.

The learner density needs no training, so no --model; the job writes it to <output>/model, for other jobs and commands.

The job writes the plans, the table (Markdown and JSON), the result of every episode (Parquet), overlays of the best,
the worst and some random episodes, and summary.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fss.collection import part_io
from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.core.flags import check_required
from fss.tracking.run import Run
from pipelines.evaluation.config import HELP, EvaluateJobConfig, EvaluateSettings
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job
from pipelines.runtime.labels import Labels
from pipelines.runtime.result import JobResult

if TYPE_CHECKING:
    from fss.collection import MaskSet
    from fss.evaluation.evaluator import EvaluationResult
    from pipelines.evaluation.task import EvaluationTask
    from pipelines.runtime.model_source import ModelSource

JOB = "evaluate"
SHARE = 100  # episodes of a share on a cluster, which take longer than loading the model


def run(config: EvaluateJobConfig, *, parent: Run | None = None) -> JobResult:
    """Evaluate a model on every plan; one of the same model, plans, labels and settings is not repeated.

    Args:
        config: the settings.
        parent: run of the job that has this evaluation as a stage.

    Raises:
        ValueError: there is no such model, collection, mask set, class split, fold or device, or a class has too few
            pictures.
    """
    from fss.collection import Collection, ImageReader
    from fss.tracking.lineage import log_dataset
    from pipelines.evaluation.plans import make_plans
    from pipelines.evaluation.report import write_report
    from pipelines.evaluation.task import MODEL, EvaluationTask
    from pipelines.runtime.checkpoints import publish_untrained
    from pipelines.runtime.mlflow_run import logged_model
    from pipelines.runtime.model_source import inspect_model, load_model
    from pipelines.runtime.validation import check_image_size

    config = resolve(config)
    source = _model_source(config)
    description = _description(source)
    model, model_size = inspect_model(source, Collection.open(config.collection))
    image_size = config.image_size or model_size
    if image_size != model_size or source.network is not None:
        check_image_size(load_model(source), image_size)
    config = replace(config, model=config.model and source.uri, image_size=image_size)
    checkpoint = storage.join(config.output, MODEL) if source.network is not None else source.uri
    truth = Collection.open(config.collection).mask_set(config.mask_set)
    drawn = make_plans(config, truth)
    plans = drawn.plans
    left_out = {"classes left out": drawn.left_out} if drawn.left_out else {}
    options: list[Any] = [image_size, config.original_size, config.fusion, config.baselines]
    presence = config.presence_episodes
    options += [{"presence_episodes": presence}] if presence != EvaluateSettings().presence_episodes else []
    options += [config.precision] if config.precision != "fp32" else []  # fss 0.2 had fp32 only
    options += [config.scales] if config.scales != "whole" else []  # and whole queries only
    options += ["flipped"] if config.flip else []
    options += ["refined"] if config.refines else []  # and masks of the network's grid only
    hashes = {f"{plan.shots}-shot plan": plan.hash for plan in plans}
    with Job(
        JOB,
        config,
        key=config_hash([JOB, model, [plan.hash for plan in plans], *options], config.saliency),
        output_dir=config.output,
        inputs={
            "checkpoint": checkpoint,
            "model": model,
            **hashes,
            "protocol": plans[0].protocol,
            "collection": config.collection,
            **left_out,
        },
        plan={"episodes": sum(map(len, plans)), **hashes, **left_out},
        contents={"truth": truth.contents()},  # the plans name pictures and classes, not pixels
        settings={"visualizations": config.visualizations},
        remove_too=[config.output],
        parent=parent,
        labels=_labels(source, description, truth, sum(map(len, plans))),
        tags={"fss.model": model, **{f"fss.plan_{plan.shots}shot": plan.hash for plan in plans}},
    ) as job:
        if job.done:
            return job.result
        details = {"plans": hashes}
        job.dataset = log_dataset(
            job.run, truth, context="evaluation", fingerprint=plans[0].fingerprint, details=details
        )
        job.model = logged_model(job.run, source.uri, description.get("training", {}).get("run_id"))
        if job.model is not None:
            job.run.log_model_input(job.model)
        task = EvaluationTask(
            model=source,
            collection=config.collection,
            mask_set=config.mask_set,
            plans=plans,
            absent=drawn.absent,
            image_size=image_size,
            original_size=config.original_size,
            fusion=config.fusion,
            scales=config.scales,
            flip=config.flip,
            refine=config.refines,
            baselines=config.baselines,
            saliency=config.saliency,
            visualizations=config.visualizations,
            device=config.device,
            precision=config.precision,
        )
        with job.timed("evaluation"):
            results = _evaluate(task, config.workers, job)
        reader = ImageReader(truth.collection, truth)
        write_report(results, job, config.output, reader=reader, visualizations=config.visualizations)
        if source.network is not None:
            job.result.outputs["model"] = publish_untrained(load_model(source), checkpoint)
        if left_out:
            job.result.counts["classes left out"] = len(drawn.left_out)
    return job.result


def resolve(config: EvaluateJobConfig) -> EvaluateJobConfig:
    """Resolve the device and the paths of a configuration.

    The image size is resolved later, because it may be the model's.

    Raises:
        ValueError: a required setting is missing, or there is no such collection or device.
    """
    from pipelines.runtime.device import resolve_device
    from pipelines.runtime.validation import check_collection

    check_required(config)
    check_collection(config.collection)
    return replace(
        config,
        collection=storage.absolute_uri(config.collection),
        output=storage.absolute_uri(config.output),
        device=resolve_device(config.device, workers=config.workers or 1, precision=config.precision),
    )


def _model_source(config: EvaluateJobConfig) -> ModelSource:
    """Return the model to evaluate: the one that is named, or a segmenter that needs no training."""
    from fss.models.config import DensityConfig
    from pipelines.runtime.model_source import model_source, training_free_source

    if not config.model:
        return training_free_source(
            learner=config.learner,
            masking=config.masking,
            backbone=config.backbone,
            backbone_weights=config.backbone_weights,
            saliency_prior=config.saliency_prior,
            density=config.density,
            image_size=config.image_size,
        )
    if config.saliency_prior is not None or config.density != DensityConfig():
        raise ValueError(
            f"{config.model} contains its own settings; leave out --saliency-prior and --density.*, or --model"
        )
    return model_source(
        config.model,
        learner=config.learner,
        masking=config.masking,
        backbone=config.backbone,
        backbone_weights=config.backbone_weights,
        benchmark=config.benchmark,
        tracking=config.tracking.uri,
    )


def _description(source: ModelSource) -> dict[str, Any]:
    """Return the description of a checkpoint; empty for a model of another kind."""
    from fss.models.checkpoint import DESCRIPTION

    file = storage.join(source.uri, DESCRIPTION)
    return part_io.read_json(file) if source.kind == "checkpoint" and part_io.exists(file) else {}


def _labels(source: ModelSource, description: Mapping[str, Any], truth: MaskSet, episodes: int) -> Labels:
    """Return the labels of the run: the data, the network as far as it is known, and the number of episodes."""
    network = to_dict(source.network) if source.network else description.get("segmenter", {})
    return Labels(
        data=truth.collection.name,
        backbone=network.get("backbone", source.backbone),
        learner=network.get("learner", source.learner),
        amount=f"{episodes} episodes",
    )


def _evaluate(task: EvaluationTask, workers: int | None, job: Job) -> list[EvaluationResult]:
    """Evaluate every plan in this process (0 workers) or in Ray tasks."""
    import torch

    from pipelines.evaluation.task import evaluate_share, join

    if workers == 0:
        shares = [evaluate_share(task, 0, 1, torch.get_num_threads())]
    else:
        job.start_ray()
        shares = _evaluate_on_ray(task, workers)
    return [join(plan, [share[index] for share in shares]) for index, plan in enumerate(task.plans)]


def _evaluate_on_ray(task: EvaluationTask, workers: int | None) -> list[list[EvaluationResult]]:
    """Evaluate all plans on Ray, with one GPU or CPU a process; return the results by share and plan."""
    from functools import partial

    from fss.core.system import available_cores
    from pipelines.evaluation.task import evaluate_named_share
    from pipelines.runtime.config import PartFailureConfig
    from pipelines.runtime.map_parts import OnActors, PartFunction, run_parts
    from pipelines.runtime.part_worker import one_by_one
    from pipelines.runtime.ray_session import count_gpus, is_local

    episodes = min(map(len, task.plans))
    processes, threads = (available_cores(), 1) if task.device == "cpu" else (max(1, count_gpus()), 4)
    if workers is None and not is_local():
        processes = -(-episodes // SHARE)  # machines that join later take shares too
    shares = min(workers or processes, episodes)
    one = partial(evaluate_named_share, task=task, shares=shares, threads=threads)
    function: PartFunction | OnActors = one
    if task.device != "cpu":
        on_gpu = task.device == "cuda"
        actors = workers or (None if on_gpu else 1)
        function = OnActors(function=one_by_one(one), actors=actors, gpus=float(on_gpu), names=1)
    results_of_share: dict[str, list[EvaluationResult] | ValueError] = {}
    run_parts(
        [f"{share:05d}" for share in range(shares)],
        function,
        stage=JOB,
        workers=workers or (shares if is_local() else None),
        failures=PartFailureConfig(max_failed_parts=0.0),
        on_part=lambda row: results_of_share.update({row["part"]: row["results"]}),
    )
    in_order = []
    for _, results in sorted(results_of_share.items()):
        if isinstance(results, ValueError):
            raise results
        in_order.append(results)
    return in_order


def main() -> None:
    """Run from the command line."""
    cli_main(EvaluateJobConfig, run, job=JOB, description=str(__doc__), common=HELP)


if __name__ == "__main__":
    main()
