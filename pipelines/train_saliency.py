"""Train a saliency student on the pseudo-masks of a collection, without labels.

    python -m pipelines.train_saliency --collection my-collection --output students \\
        --backbone-weights mobilenet_v2.pth
    python -m pipelines.pseudomask --collection my-collection --output-mask-set refined --estimator student \\
        --student students/<name>/student.safetensors

The training is one process on one device, because a student needs only thousands of pictures; it takes a quarter of an
hour on two cores. The job writes <output>/<name>/student.safetensors and summary.json. A stopped training continues
after its last epoch, and after its last step if Ctrl-C or SIGTERM stopped it. A finished training does nothing. The
pseudo-mask job predicts the masks of the collection with the student.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fss.core import storage
from fss.core.config import config_hash, to_dict
from fss.core.flags import check_required
from fss.saliency.config import PRETRAINED
from fss.tracking.run import Run
from pipelines.masks.config import TRAIN_SALIENCY_HELP, TrainSaliencyConfig
from pipelines.runtime.command_line import cli_main
from pipelines.runtime.job import Job
from pipelines.runtime.labels import Labels
from pipelines.runtime.result import JobResult

if TYPE_CHECKING:
    from fss.models.saliency.network import SaliencyStudent
    from fss.saliency.student.data import StudentData
    from fss.training.loop import StepReport
    from fss.training.student import StudentLoop, StudentTraining

JOB = "train_saliency"
FILE = "student.safetensors"
LOG_EVERY = 20  # steps between logged points


def run(config: TrainSaliencyConfig, *, parent: Run | None = None) -> JobResult:
    """Train the student and save it.

    Raises:
        ValueError: there is no such collection, mask set, acceptance, backbone, weights file or device, or a student
            of this name exists with other settings.
    """
    from fss.collection import Collection
    from fss.models.saliency.network import save_student
    from fss.saliency.student.data import load_student_data
    from fss.tracking.lineage import log_dataset
    from pipelines.runtime.steps import delete_state
    from pipelines.runtime.validation import build_student

    config = resolve(config)
    masks = Collection.open(config.collection).mask_set(config.mask_set)
    data = {"collection": masks.collection.fingerprint(), "mask_set": masks.config_hash}
    if config.acceptance:
        data["acceptance"] = masks.read_acceptance(config.acceptance).hash
    contents = {"contents": masks.contents()}
    student = build_student(config.student)
    key = work_hash(config, data)
    name = config.name or f"{config.student.backbone}-{key}"
    output_dir = storage.join(config.output, name)
    with Job(
        JOB,
        replace(config, name=name),
        key=key,
        output_dir=output_dir,
        inputs={"name": name, **data},
        plan={
            "output folder": output_dir,
            "rounds": config.training.rounds,
            "epochs of a round": config.training.epochs,
        },
        claim_as=f"a student {name!r} in {config.output}",
        contents=contents,
        labels=Labels(
            data=masks.collection.name, backbone=config.student.backbone, amount=f"{config.training.rounds} rounds"
        ),
        parent=parent,
        tags={f"fss.{name}": value for name, value in data.items()},
    ) as job:
        if job.done:
            if not config.dry_run:
                delete_state(output_dir)  # of a job that was killed at its very end
            return job.result
        details = {"acceptance": config.acceptance, **contents}
        log_dataset(job.run, masks, context="student", fingerprint=data["collection"], details=details)
        with job.timed("pictures and masks"):
            student_data = load_student_data(
                masks,
                config.student.image_size,
                acceptance=config.acceptance,
                most=config.images,
                seed=config.training.seed or 0,
            )
        with job.timed("training"):
            training = _train(student, student_data, config, job.run, output_dir)
        file = storage.join(output_dir, FILE)
        save_student(student, file, metadata={"mlflow_run": job.run.run_id, **data, **contents})
        job.result.counts = {
            "images": len(student_data.images),
            "trusted at first": int((student_data.weights > 0).sum()),
        }
        job.result.counts |= {"rounds": len(training.rounds), "epochs": sum(training.rounds)}
        job.result.metrics = {"kept.agreement": training.agreement[-1]}
        job.result.outputs = {"student": file}
    delete_state(output_dir)
    return job.result


def resolve(config: TrainSaliencyConfig) -> TrainSaliencyConfig:
    """Resolve the seeds, the device and the paths of a configuration.

    Raises:
        ValueError: a required setting, the collection or the device is missing.
    """
    from pipelines.runtime.checkpoints import absolute_weights
    from pipelines.runtime.device import resolve_device
    from pipelines.runtime.validation import check_collection

    check_required(config)
    check_collection(config.collection)
    student, training, weights = config.student, config.training, absolute_weights(config.student.backbone_weights)
    return replace(
        config,
        collection=storage.absolute_uri(config.collection),
        output=storage.absolute_uri(config.output),
        student=replace(
            student,
            backbone_weights=None if weights is None else str(weights),
            seed=config.seed if student.seed is None else student.seed,
        ),
        training=replace(training, seed=config.seed if training.seed is None else training.seed),
        device=resolve_device(config.device, precision=config.precision),
    )


def work_hash(config: TrainSaliencyConfig, data: Mapping[str, str]) -> str:
    """Return the hash of everything that determines the result: settings, ``data`` hashes and contents of the weights.

    The hashed names are those of fss 0.1, so that students of that version stay valid.
    """
    from fss.core.hashing import file_hash

    student = to_dict(config.student)
    weights = student.pop("backbone_weights")
    student["weights"] = weights if weights in (None, PRETRAINED) else file_hash(weights, "weights file")
    # Left out if it is the default, so that students of earlier versions stay valid.
    precision = [] if config.precision == "fp32" else [config.precision]
    return config_hash(["student", config.images], dict(data), student, config.training, *precision)


def _train(
    student: SaliencyStudent, student_data: StudentData, config: TrainSaliencyConfig, mlflow_run: Run, output_dir: str
) -> StudentTraining:
    """Train the student in place from its last checkpoint on, which lies in the folder of the outputs."""
    from fss.models.precision import set_precision
    from fss.training.student import StudentLoop
    from pipelines.runtime.steps import load_state, run_steps

    set_precision(config.precision, config.device)
    loop = StudentLoop(student.to(config.device), student_data, config.training, precision=config.precision)
    load_state(output_dir, loop)
    run_steps(loop.run(), _CheckpointWriter(loop, mlflow_run, output_dir), due=lambda step: loop.epoch_ended)
    return loop.result


class _CheckpointWriter:
    """Logs and prints every epoch, and writes the checkpoints."""

    def __init__(self, loop: StudentLoop, mlflow_run: Run, output_dir: str):
        from pipelines.runtime.metrics_logger import MetricsLogger

        self.loop, self.output_dir = loop, output_dir
        self.logger = MetricsLogger(run=mlflow_run, every=LOG_EVERY, episodes=loop.config.batch_size, images=1)

    def add(self, report: StepReport) -> None:
        """Log a step, and the metrics of an epoch after its last step."""
        ended = self.loop.epoch_ended
        self.logger.add(report, always=ended)
        if not ended:
            return
        metrics = self.loop.epoch_metrics
        self.logger.log({"train/round": metrics["round"], "val/agreement": metrics["agreement"]}, report.step)
        words = f"round {metrics['round'] + 1}, epoch {metrics['epoch'] + 1}, loss {metrics['loss']:.3f}"
        print(f"[{JOB}] {words}, held-out agreement {metrics['agreement']:.3f}", flush=True)

    def save(self, *, validate: bool = True) -> None:
        """Write the state of the loop into the output folder."""
        from pipelines.runtime.steps import save_state

        save_state(self.output_dir, self.loop)


def main() -> None:
    """Run from the command line."""
    cli_main(TrainSaliencyConfig, run, job=JOB, description=str(__doc__), common=TRAIN_SALIENCY_HELP)


if __name__ == "__main__":
    main()
