"""Segment photographs by example.

segmenter = fss.load_segmenter("runs/masksplit")
prediction = segmenter.predict(["cup.jpg"], ["cup-mask.png"], "table.jpg")
prediction.mask, prediction.probability  # [H,W], the size of the query

Many queries can share one encoding of the examples:

cups = segmenter.examples(["cup.jpg", "mug.jpg"], ["cup-mask.png", (40, 60, 180, 220)])
masks = [prediction.mask for prediction in cups.predict_many(photographs)]

A box stands for the object in it, and points or strokes for the object under them (see fss.inference.prompts). Negative
examples show what is not meant:

cups = segmenter.examples(["cup.jpg"], ["cup-mask.png"], negatives=[("bowl.jpg", Prompt(points=[(120, 80)]))])
"""

import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from fss.core.arrays import UInt8
from fss.core.system import require_device
from fss.episodes.rendering import canvas_batch
from fss.images.resize import image_canvas, mask_canvas
from fss.inference.converted import ConvertedSegmenter, QueryNetwork
from fss.inference.examples import EncodedSupports, Examples
from fss.inference.inputs import MaskLike, PictureLike, read_picture, read_support_mask
from fss.inference.model_files import local_checkpoint
from fss.inference.painted import PaintedModelWarning, painted_model_note
from fss.inference.prediction import Prediction
from fss.models.checkpoint import load_checkpoint, read_description
from fss.models.config import Backend, Precision, Scales, training_free_config
from fss.models.precision import autocast, set_precision
from fss.models.segmenter import FewShotSegmenter
from fss.models.speed import BackbonePath, prepare_inference, shared_copy

_GPU_BATCH = 16
_ADVICE = (
    "train one with python -m pipelines.masksplit --photographs FOLDER, or use the segmenter that needs no training "
    "(fss predict without --model)"
)


class SupportWarning(UserWarning):
    """The mask of a support may not be what the user expects."""


class Predictor:
    """A segmenter for pictures of any kind and size; :func:`load_segmenter` creates one."""

    def __init__(
        self,
        segmenter: FewShotSegmenter,
        *,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        backend: Backend = "torch",
        notes: Sequence[str] = (),
    ) -> None:
        """Prepare a segmenter for inference. It moves to the device, and into evaluation mode; its weights stay.

        Raises:
            ValueError: there is no such device, precision or back end; the back end does not run on the device, is not
                installed, or cannot run this network; or the device or back end does not have the precision.
        """
        if backend not in get_args(Backend):
            raise ValueError(f"the back end must be {', '.join(get_args(Backend))}, got {backend!r}")
        if backend != "torch" and not str(device).startswith("cpu"):
            raise ValueError(f"the back end {backend} runs on the CPU, got the device {device}; use --device cpu")
        require_device(str(device))
        set_precision(precision if backend == "torch" else "fp32", device)
        self.segmenter = shared_copy(segmenter.to(device).eval())
        self.network: QueryNetwork = self.segmenter
        """What encodes queries and compares them with supports."""
        if backend == "torch":
            self.path = prepare_inference(self.segmenter, precision)
            """How the backbone runs."""
        else:
            self.network = converted = ConvertedSegmenter(self.segmenter, backend, precision)
            prepare_inference(self.segmenter)  # encodes the supports
            self.path = BackbonePath(name=converted.name, autocast="fp32")
        self.notes = tuple(notes)
        """What the user should know about the model, one sentence each."""
        self.device = torch.device(device)
        self.size = segmenter.config.image_size
        self.batch_size = 1 if self.device.type == "cpu" else _GPU_BATCH
        """Queries that :meth:`Examples.predict_many` encodes at once; a CPU is faster with one at a time."""

    def predict(
        self,
        support_images: PictureLike | Sequence[PictureLike],
        support_masks: MaskLike | Sequence[MaskLike],
        query: PictureLike,
        *,
        refine: bool = True,
        scales: Scales = "whole",
        flip: bool = False,
        presence_threshold: float | None = None,
    ) -> Prediction:
        """Segment the objects in ``query`` that the masks of the supports mark.

        Args:
            support_images: a picture or K pictures of any kind and size (see ``fss.inference.inputs.PictureLike``).
            support_masks: for each picture its mask, boxes (left, top, right, bottom) or a prompt (see
                ``fss.inference.inputs.MaskLike``).
            query: a picture.
            refine: whether outlines follow the edges of the query (see :meth:`Examples.predict`).
            scales: scales in which the query is seen (see :meth:`Examples.predict`).
            flip: whether the query is seen mirrored too (see :meth:`Examples.predict`).
            presence_threshold: presence below which the mask is empty (see :meth:`Examples.predict`).

        Raises:
            ValueError: there is no support, the numbers of pictures and masks differ, or a picture or mask is invalid.
        """
        examples = self.examples(support_images, support_masks)
        return examples.predict(query, refine=refine, scales=scales, flip=flip, presence_threshold=presence_threshold)

    def examples(
        self,
        support_images: PictureLike | Sequence[PictureLike],
        support_masks: MaskLike | Sequence[MaskLike],
        *,
        negatives: Sequence[tuple[PictureLike, MaskLike]] = (),
    ) -> Examples:
        """Encode supports once for many queries; further arguments and errors as in :meth:`predict`.

        A mask that was not made as one would expect, such as a box in which no object stands out, is a warning, and so
        is a negative example that marks the very object of a support.

        Args:
            support_images: as in :meth:`predict`.
            support_masks: as in :meth:`predict`.
            negatives: pairs of picture and mask that show what is not meant. They are a second set of supports, for
                every learner. A pixel belongs to the object only if its probability by the supports exceeds the one
                by the negatives.
        """
        supports = self._encode(*_as_lists(support_images, support_masks), "support")
        pairs = _as_pairs(negatives)
        others = [picture for picture, _ in pairs], [mask for _, mask in pairs]
        negative = self._encode(*others, "negative example") if pairs else None
        if negative is not None and (notes := _contradictions(supports, negative)):
            for note in notes:
                warnings.warn(note, SupportWarning, stacklevel=2)
            negative = replace(negative, notes=negative.notes + notes)
        for encoded in (supports, negative):
            if encoded is not None:
                self.prepare(len(encoded.pairs))
        return Examples(self, supports, negative)

    def prepare(self, shots: int) -> None:
        """Convert the network for K supports ahead of the first query, if it is to be converted.

        Raises:
            ValueError: the back end cannot run the network, or does not answer as PyTorch does.
        """
        if isinstance(self.network, ConvertedSegmenter):
            self.network.prepare(shots)

    def _encode(self, images: Sequence[PictureLike], masks: Sequence[MaskLike], what: str) -> EncodedSupports:
        pictures, made, canvases, notes = [], [], [], []
        for number, (image, mask) in enumerate(zip(images, masks, strict=True), 1):
            name = f"{what} {number}{f' ({image})' if isinstance(image, str | Path) else ''}"
            try:
                pictures.append(read_picture(image))
                made.append(read_support_mask(mask, pictures[-1]))
                canvases.append(self._mask(made[-1].mask))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            notes += [f"{name}: {note}" for note in made[-1].notes]
        for note in notes:
            warnings.warn(note, SupportWarning, stacklevel=3)
        mask_batch = torch.stack(canvases).to(self.device)
        with torch.no_grad(), self.autocast():
            features = self.segmenter.encode_support(self.canvases(pictures), mask_batch)
        pairs = [(rgb, each.mask) for rgb, each in zip(pictures, made, strict=True)]
        return EncodedSupports(features=features, masks=mask_batch[None], pairs=pairs, notes=tuple(notes))

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of the network's passes."""
        return autocast(self.device, self.path.autocast)

    def canvases(self, pictures: Sequence[UInt8]) -> Tensor:
        """Return the network's input for N pictures, ImageNet-normalised float32 [N,3,size,size]."""
        return canvas_batch([image_canvas(rgb, self.size) for rgb in pictures], self.device)

    def _mask(self, mask: UInt8) -> Tensor:
        small = mask_canvas(mask, self.size)
        if not small.any():
            raise ValueError(
                f"the marked object vanishes at the network's {self.size} pixels a side; crop the picture around it"
            )
        return torch.from_numpy(small.astype(np.float32))


def training_free_segmenter(
    *,
    backbone_weights: str | Path | None = None,
    saliency_prior: str | Path | None = None,
    device: str | None = None,
    precision: Precision = "fp32",
    backend: Backend = "torch",
) -> Predictor:
    """Return a segmenter that needs no training: the learner ``density`` on MobileNetV2.

    Args:
        backbone_weights: a torch or safetensors file; None takes the library's, which are downloaded.
        saliency_prior: a student.safetensors of the job train_saliency, whose map of the query is added.
        device: device of the network; None uses a GPU if there is one.
        precision: precision of the network's arithmetic (see ``fss.models.precision``).
        backend: what segments queries: ``torch``, or ``onnxruntime`` or ``openvino`` on a CPU, which the network is
            converted for (see ``fss.inference.converted``).

    Raises:
        ValueError: a file holds no fitting weights, weights cannot be downloaded, there is no such device, or the back
            end cannot run the network.
    """
    config = training_free_config(backbone_weights=backbone_weights, saliency_prior=saliency_prior)
    try:
        segmenter = FewShotSegmenter.from_config(config)
    except OSError as error:
        raise ValueError(
            f"the pretrained weights of {config.backbone} are not in the cache and cannot be downloaded ({error}). "
            "Give --backbone-weights FILE, or a trained model with --model"
        ) from error
    return Predictor(segmenter, device=device or _default_device(backend), precision=precision, backend=backend)


def load_segmenter(
    model: str | Path,
    *,
    device: str | None = None,
    precision: Precision = "fp32",
    backend: Backend = "torch",
    tracking: str | None = None,
) -> Predictor:
    """Load a trained segmenter for pictures of any kind and size.

    A model that was trained on the painted sample is a :class:`~fss.inference.painted.PaintedModelWarning`.

    Args:
        model: a folder, an s3:// URI, ``hf://user/name@revision``, an MLflow URI or the name of a registered model (see
            ``fss.inference.model_files.local_checkpoint``).
        device: device of the network; None uses a GPU if there is one.
        precision: precision of the network's arithmetic (see ``fss.models.precision``).
        backend: what segments queries: ``torch``, or ``onnxruntime`` or ``openvino`` on a CPU, which the network is
            converted for (see ``fss.inference.converted``).
        tracking: URI of the MLflow store; None uses ``MLFLOW_TRACKING_URI``, or the store in the working directory.

    Raises:
        ValueError: there is no such model or device, or the back end cannot run it.
    """
    device = device or _default_device(backend)
    with local_checkpoint(model, tracking=tracking) as folder:
        note = painted_model_note(model, read_description(folder), _ADVICE)
        segmenter, notes = load_checkpoint(folder), [note] if note else []
        predictor = Predictor(segmenter, device=device, precision=precision, backend=backend, notes=notes)
    if note:
        warnings.warn(note, PaintedModelWarning, stacklevel=2)
    return predictor


def _default_device(backend: Backend) -> str:
    return "cuda" if backend == "torch" and torch.cuda.is_available() else "cpu"


def _contradictions(supports: EncodedSupports, negatives: EncodedSupports) -> tuple[str, ...]:
    """Return a sentence for each negative example that marks the very object of a support."""
    return tuple(
        f"negative example {number} marks the same pixels of the same picture as support {other}, so nothing is found"
        for number, negative in enumerate(negatives.pairs, 1)
        for other, support in enumerate(supports.pairs, 1)
        if all(map(np.array_equal, negative, support))
    )


def _as_pairs(negatives: object) -> list[tuple[PictureLike, MaskLike]]:
    """Return the negative examples, each of which is a picture and a mask."""
    pairs: list[Any] = list(negatives) if isinstance(negatives, Iterable) else [negatives]
    others = [each for each in pairs if not isinstance(each, list | tuple) or len(each) != 2]
    if others:
        size = f" of {len(others[0])}" if isinstance(others[0], list | tuple) else ""
        raise ValueError(
            "negatives must be a list of pairs of a picture and its mask, [(picture, mask), ...]; it has a "
            f"{type(others[0]).__name__}{size}"
        )
    return [(picture, mask) for picture, mask in pairs]


def _as_lists(images: object, masks: object) -> tuple[list[PictureLike], list[MaskLike]]:
    """Return lists of K pictures and K masks, given single ones, lists or stacked tensors."""
    if not isinstance(images, list | tuple) and getattr(images, "ndim", 3) != 4:
        images, masks = [images], [masks]
    picture_list, mask_list = list(images), list(masks)  # type: ignore[call-overload]
    if not picture_list or len(picture_list) != len(mask_list):
        raise ValueError(
            f"got {len(picture_list)} support pictures and {len(mask_list)} masks; give at least one picture, and a "
            "mask, a box or a prompt for each"
        )
    return picture_list, mask_list
