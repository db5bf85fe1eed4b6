"""Validation episodes with the predictions of the network, ready to draw."""

import numpy as np
import torch
from torch import Tensor, nn

from fss.episodes.episode import EpisodeBatch
from fss.models.features import IMAGENET_MEAN, IMAGENET_STD
from fss.visualize import EpisodeView


@torch.no_grad()
def predicted_views(segmenter: nn.Module, batch: EpisodeBatch, *, limit: int = 8) -> list[EpisodeView]:
    """Predict the first ``limit`` episodes of a batch in evaluation mode, and return their views."""
    training = segmenter.training
    segmenter.eval()
    logits = segmenter(batch.query[:limit], batch.support_images[:limit], batch.support_masks[:limit])
    segmenter.train(training)
    predictions = logits.argmax(1).cpu().numpy().astype(np.uint8)
    views = []
    for index, prediction in enumerate(predictions):
        truth = batch.target[index].cpu().numpy().astype(np.uint8)
        pairs = zip(batch.support_images[index], batch.support_masks[index], strict=True)
        supports = [(_pixels(image), mask.cpu().numpy().astype(np.uint8)) for image, mask in pairs]
        iou = _iou(prediction, truth)
        query = _pixels(batch.query[index])
        caption = f"{batch.ids[index]}  IoU {iou:.2f}"
        views.append(EpisodeView(query=query, truth=truth, prediction=prediction, supports=supports, caption=caption))
    return views


def _pixels(image: Tensor) -> np.ndarray:
    mean, std = (image.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = ((image * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())


def _iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    valid = truth != 255
    predicted, positive = (prediction == 1) & valid, truth == 1
    return float((predicted & positive).sum() / max(1, (predicted | positive).sum()))
