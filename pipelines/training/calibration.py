"""The calibration of a trained model on its held-out tasks, stored with the model."""

from dataclasses import replace

import torch

from fss.evaluation.calibration import fit_calibration
from fss.models import load_checkpoint
from fss.models.checkpoint import write_calibration
from fss.models.default_calibrations import default_calibration
from pipelines.runtime.checkpoints import local_copy
from pipelines.training.data import TrainingData


def calibrate(model: str, data: TrainingData, *, device: str) -> str:
    """Fit the calibration of a model to its answers to held-out tasks, and store it in the model's JSON.

    Where a held-out task shows one photograph twice, a calibration of the library is better, if there is one
    (:mod:`fss.models.default_calibrations`). With too few tasks the model stays without one: its confidence is then
    what its probabilities lead to expect.

    Args:
        model: URI of the model's folder.
        data: data of the training, whose validation has the tasks.
        device: device of the training; the CPU stands in for one that this machine lacks.

    Returns:
        What the calibration was fitted on, in words; empty if it was not.
    """
    config = data.config
    here = replace(config, loader="worker", stream=replace(config.stream, decoders="threads"))
    local = replace(data, config=here)
    validator = local.validator(local.stream())
    on = torch.device(device if device != "cuda" or torch.cuda.is_available() else "cpu")
    with local_copy(model) as folder:
        segmenter = load_checkpoint(folder).to(on)
    calibration = default_calibration(segmenter.config, prior=segmenter.prior is not None)
    if validator.across_pictures or not calibration.source:
        answers = validator.answers(segmenter, on)
        source = f"{len(answers.ious)} {validator.title} of the training"
        calibration = fit_calibration(answers, source=source, empty_masks=validator.across_pictures)
    if calibration.source:
        write_calibration(model, calibration)
    return calibration.source
