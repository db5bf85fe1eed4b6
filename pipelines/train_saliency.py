"""Train a saliency student on a collection's pseudo-masks, without labels, and keep its weights.

    python -m pipelines.train_saliency --collection my-collection --output students \
        --student.backbone-weights mobilenet_v2.pth
    python -m pipelines.pseudomask --collection my-collection --name refined \
        --estimator student --student students/<name>/student.safetensors

One process on one device, a quarter of an hour on two cores: a student sees thousands of pictures, not millions, and
the collection is re-predicted with it by the pseudo-mask job. Writes <output>/<name>/student.safetensors and
summary.json; a training that is finished does nothing when it is started again.
"""

from dataclasses import replace

import torch

from fss.collection import Collection
from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.core.hashing import file_hash
from fss.saliency.config import PRETRAINED, StudentTrainingConfig
from fss.saliency.student.data import StudentData, load_student_data
from fss.saliency.student.network import SaliencyStudent, save_student
from fss.saliency.student.training import StudentTraining, train_student
from fss.tracking.lineage import log_dataset
from fss.tracking.run import Run
from pipelines.masks.config import TrainSaliencyConfig
from pipelines.runtime.mlflow_run import job_run
from pipelines.runtime.output_dir import claim, remove
from pipelines.runtime.result import JobResult, cli_main, dry_run_result, finished_before

JOB = "student"
FILE = "student.safetensors"


def run(config: TrainSaliencyConfig, *, parent: Run | None = None) -> JobResult:
    """Train the student and keep it.

    Raises:
        ValueError: no such collection, mask set, acceptance or weights file, or a student of this name with other
            settings.
    """
    masks = Collection.open(config.collection).mask_set(config.mask_set)
    data = {"collection": masks.collection.fingerprint(), "mask_set": masks.config_hash}
    if config.acceptance:
        data["acceptance"] = masks.read_acceptance(config.acceptance).hash
    weights = config.student.backbone_weights
    named = weights if weights is None or weights == PRETRAINED else file_hash(weights, "weights file")
    shape = replace(config.student, backbone_weights=named)
    key = config_hash([JOB, config.images], data, shape, config.training)
    name = config.name or f"{config.student.backbone}-{key}"
    home = storage.join(storage.absolute_uri(config.output), name)
    if config.dry_run:
        return dry_run_result(JOB, config, {"name": name, "output": home})
    if not config.overwrite and (done := finished_before(home, key)):
        return done
    if config.overwrite:
        remove(home)
    claim(home, key, to_dict(config), what=f"a student {name!r} in {config.output}")
    summary = JobResult(job=JOB, inputs={"name": name, "key": key, **data})
    tags = {f"fss.{kind}": value for kind, value in data.items()}
    with job_run(
        JOB, key=key, tracking=config.tracking, parent=parent, params=to_dict(config), tags=tags, fresh=config.overwrite
    ) as record:
        summary.run_id = record.run_id
        log_dataset(
            record, masks, context="student", fingerprint=data["collection"], details={"acceptance": config.acceptance}
        )
        with summary.timed("pictures and masks"):
            lesson = load_student_data(
                masks,
                config.student.image_size,
                acceptance=config.acceptance,
                most=config.images,
                seed=config.training.seed,
            )
        with summary.timed("training"):
            student = SaliencyStudent(config.student).to(torch.device(config.device))
            result = _train(student, lesson, config.training, record)
        place = storage.join(home, FILE)
        save_student(student, place, metadata={"mlflow_run": record.run_id, **data})
        _fill(summary, lesson, result, place)
        record.log_metrics({f"kept.{figure}": value for figure, value in summary.metrics.items()})
        summary.write(home)
        record.log_json("summary.json", to_dict(summary))
    return summary


def _train(
    student: SaliencyStudent, lesson: StudentData, config: StudentTrainingConfig, record: Run
) -> StudentTraining:
    seen = 0

    def report(metrics: dict[str, float]) -> None:
        nonlocal seen
        record.log_metrics(metrics, step=seen)
        seen += 1
        words = f"round {metrics['round'] + 1}, epoch {metrics['epoch'] + 1}, loss {metrics['loss']:.3f}"
        print(f"[{JOB}] {words}, held-out agreement {metrics['agreement']:.3f}", flush=True)

    return train_student(student, lesson, config, report=report)


def _fill(summary: JobResult, lesson: StudentData, result: StudentTraining, place: str) -> None:
    summary.counts = {"images": len(lesson.images), "trusted at first": int((lesson.weights > 0).sum())}
    summary.counts |= {"rounds": len(result.rounds), "epochs": sum(result.rounds)}
    summary.metrics = {"agreement": result.agreement[-1]}
    summary.outputs = {"student": place}


def main() -> None:
    """Run from the command line."""
    cli_main(TrainSaliencyConfig, run, job=JOB, description=str(__doc__))


if __name__ == "__main__":
    main()
