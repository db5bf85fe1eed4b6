"""Evaluate a segmenter on a labelled collection, with what it has to beat in the same table.

    python -m pipelines.evaluate --checkpoint runs/<name>/model --collection my-labelled-collection --output results
    python -m pipelines.evaluate --checkpoint models:/<id> --collection fss --benchmark fss --output results
    python -m pipelines.evaluate --checkpoint hsnet/fold0.pt --learner hsnet --masking feature --backbone resnet50 \\
        --collection voc-val --benchmark pascal --fold 0 --protocol hsnet --split-folder splits --output results

Writes the episode plans, the table (Markdown and JSON), the result of every episode (Parquet), overlays of the best,
the worst and some random episodes, and summary.json. Every figure names its plan. The same model on the same plans is
not evaluated twice.
"""

import ray
import torch

from fss.collection import Collection
from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.episodes.episode_plan import EpisodePlan
from fss.evaluation.evaluator import EvaluationResult
from fss.tracking.lineage import log_dataset
from fss.tracking.run import Run
from pipelines.evaluation.config import EvaluateConfig, make_plans
from pipelines.evaluation.report import metrics, write_report
from pipelines.evaluation.task import EvaluationJob, evaluate_share, join
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.model_source import inspect_model
from pipelines.runtime.output_dir import remove
from pipelines.runtime.ray_session import available_cores, count_cpus, count_gpus, is_local, ray_session
from pipelines.runtime.result import JobResult, cli_main, dry_run_result, finished_before

__all__ = ["EvaluateConfig", "main", "make_plans", "metrics", "run"]

JOB = "evaluate"


def run(config: EvaluateConfig, *, parent: Run | None = None) -> JobResult:
    """Evaluate; a finished evaluation of the same model, plans and settings does nothing.

    Raises:
        ValueError: no such model, collection, mask set, class split or fold, or too few pictures of a class.
    """
    model, model_size = inspect_model(config.source())
    size = config.size or model_size
    plans = make_plans(config)
    how = [size, config.original_size, config.fusion, config.baselines]
    key = config_hash([JOB, model, [plan.hash for plan in plans], *how], config.saliency)
    home = storage.absolute_uri(config.output)
    hashes = {f"{plan.shots}-shot plan": plan.hash for plan in plans}
    if config.dry_run:
        return dry_run_result(JOB, config, {"episodes": sum(map(len, plans)), **hashes})
    if config.overwrite:
        remove(home)
    if done := finished_before(home, key):
        return done
    inputs = {"checkpoint": config.source().uri, "model": model, "key": key, **hashes}
    inputs |= {"protocol": plans[0].protocol, "collection": storage.absolute_uri(config.collection)}
    summary = JobResult(job=JOB, inputs=inputs)
    tags = {"fss.model": model, **{f"fss.plan_{plan.shots}shot": plan.hash for plan in plans}}
    with job_run(
        JOB,
        key=key,
        tracking=config.tracking,
        parent=parent,
        params=to_dict(config),
        tags=tags,
        fresh=config.overwrite,
    ) as record:
        summary.run_id = record.run_id
        truth = Collection.open(config.collection).mask_set(config.truth)
        log_dataset(record, truth, context="evaluation", fingerprint=plans[0].fingerprint, details={"plans": hashes})
        with summary.timed("evaluation"):
            results = _evaluate(config, plans, size)
        write_report(config, results, summary, record, home)
    return summary


def _evaluate(config: EvaluateConfig, plans: list[EpisodePlan], size: int) -> list[EvaluationResult]:
    job = EvaluationJob(
        model=config.source(),
        collection=storage.absolute_uri(config.collection),
        truth=config.truth,
        plans=tuple(plans),
        size=size,
        original=config.original_size,
        fusion=config.fusion,
        baselines=config.baselines,
        saliency=config.saliency,
        visualizations=config.visualizations,
    )
    shares = _run_here(job) if config.workers == 0 else _run_on_ray(job, config.workers)
    return [join(plan, [share[number] for share in shares]) for number, plan in enumerate(plans)]


def _run_here(job: EvaluationJob) -> list[list[EvaluationResult]]:
    return [evaluate_share(job, 0, 1, "cuda" if torch.cuda.is_available() else "cpu", torch.get_num_threads())]


def _run_on_ray(job: EvaluationJob, workers: int | None) -> list[list[EvaluationResult]]:
    with ray_session():
        gpus = count_gpus()
        places = gpus or (available_cores() if is_local() else count_cpus())
        shares = min(workers or places, *map(len, job.plans))
        task = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(evaluate_share)
        device, threads = ("cuda", 4) if gpus else ("cpu", 1)
        found: list[list[EvaluationResult]] = ray.get(
            [task.remote(job, share, shares, device, threads) for share in range(shares)]
        )
    return found


def main() -> None:
    """Run from the command line."""
    cli_main(EvaluateConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
