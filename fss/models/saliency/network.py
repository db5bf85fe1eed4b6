"""The saliency student: a light network that learns from pseudo-masks and segments salient objects itself.

The design follows DeepUSPS (Nguyen et al., NeurIPS 2019) with a single student: any backbone of ``fss.models``, a small
top-down decoder, and one logit per pixel. ``fss.training.student`` trains it, and ``fss.saliency.student`` estimates
masks with it. A segmenter may hold it as a prior of its queries.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.core import storage
from fss.core.config import config_hash, from_dict, renamed, to_dict
from fss.core.json_values import parse_object
from fss.models.backbones.base import MapSelection
from fss.models.backbones.factory import create_backbone
from fss.models.features import Features
from fss.models.layers.explicit_resize import resize_images
from fss.models.layers.memory_format import channels_last
from fss.models.saliency.config import StudentConfig
from fss.models.weights.loading import build_and_load
from fss.models.weights.reading import open_weights
from fss.models.weights.state_dict import abbreviate

_ADVICE = "Give the student.safetensors that pipelines.train_saliency wrote"
_HEADER = "student"  # key of the configuration and metadata in the header of the file
_OLD_NAMES = {"weights": "backbone_weights"}  # fss 0.1


class SaliencyStudent(nn.Module):
    """A backbone with a top-down decoder, from normalised images [B,3,S,S] to logits [B,S/4,S/4]."""

    def __init__(self, config: StudentConfig):
        super().__init__()
        self.config = config
        selection, seed = MapSelection(keep=("last", "last", "last", "last"), activated=True), config.seed or 0
        self.backbone = create_backbone(config.backbone, selection, backbone_weights=config.backbone_weights, seed=seed)
        self.backbone.freeze(config.frozen)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = Decoder([counts[0] for counts in self.backbone.channels], config.width)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the object, [B,S/4,S/4], for normalised images [B,3,S,S]."""
        return self.decode(self.backbone(images))

    def decode(self, features: Features) -> Tensor:
        """Return the logits, [B,S/4,S/4], for the backbone's maps."""
        logits: Tensor = self.decoder([stage[0] for stage in features])
        return logits

    @torch.no_grad()
    def saliency(self, images: Tensor) -> Tensor:
        """Return the probability of the object, [B,1,S/4,S/4], for normalised images [B,3,H,W] of any size."""
        side = self.config.image_size
        if images.shape[-2:] != (side, side):
            images = resize_images(images, (side, side))
        logits: Tensor = self(images)
        return logits.sigmoid()[:, None]

    def restart(self, seed: int) -> None:
        """Replace the decoder's weights by new random ones."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = Decoder([counts[0] for counts in self.backbone.channels], self.config.width)
        self.decoder.load_state_dict(fresh.state_dict())


class Decoder(nn.Module):
    """A top-down decoder that adds upsampled deep maps to shallower ones (FPN, Lin et al., CVPR 2017)."""

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        # The shallowest maps have the most pixels and the least semantics, so a quarter of the channels is enough.
        widths = [width // 4, *[width] * (len(channels) - 1)]
        self.lateral = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(channels, widths, strict=True))
        self.normal = nn.ModuleList(nn.GroupNorm(4, w) for w in widths)
        self.mix = nn.ModuleList(_separable(w) for w in widths)
        self.narrow = nn.Conv2d(width, width // 4, 1)
        self.context = nn.Linear(channels[-1], width)
        self.head = nn.Conv2d(width // 4, 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return logits at the size of the first stage, [B,h,w], for the maps of each stage, shallowest first."""
        maps = [channels_last(m) for m in maps]
        x = self.context(maps[-1].mean((2, 3)))[..., None, None]
        for stage in range(len(maps) - 1, -1, -1):
            side = self.normal[stage](self.lateral[stage](maps[stage]))
            x = self.narrow(x) if stage == 0 else x
            above = x if x.shape[-1] == 1 else F.interpolate(x, side.shape[-2:], mode="bilinear", align_corners=False)
            x = self.mix[stage](F.relu(side + above))
        logits: Tensor = self.head(x)[:, 0]
        return logits


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width),
        nn.Conv2d(width, width, 1),
        nn.GroupNorm(4, width),
        nn.ReLU(),
    )


def save_student(student: SaliencyStudent, uri: str | Path, *, metadata: Mapping[str, str]) -> None:
    """Write the weights as safetensors, with the student's configuration in the header of the file.

    Args:
        student: the network.
        uri: the file to write, a local path or s3:// URI.
        metadata: further text for the header, such as the lineage.
    """
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in student.state_dict().items()}
    values = {"config": to_dict(student.config), "record": dict(metadata), "weights": _tensors_sha256(state)}
    # A single key: safetensors writes several in no fixed order, and equal students should give equal files.
    header = json.dumps({**values, "checksum": config_hash(values)}, sort_keys=True)
    storage.write_atomically(*storage.resolve(uri), save(state, metadata={_HEADER: header}))


def load_student(uri: str | Path) -> SaliencyStudent:
    """Load a student that :func:`save_student` wrote, on the CPU and in evaluation mode.

    Raises:
        ValueError: the file does not exist or holds no student.
    """
    try:
        file = open_weights(uri, safetensors_only=True)
    except ValueError as error:
        raise ValueError(f"no student at {uri}: {error}. {_ADVICE}") from error
    if _HEADER not in file.metadata:
        raise ValueError(
            f"no student at {uri}: the file holds other weights ({abbreviate(sorted(file.keys))}). {_ADVICE}"
        )
    header = parse_object(file.metadata[_HEADER], f"the header of {uri}")
    config = replace(student_config(header.get("config"), str(uri)), backbone_weights=None)
    student = build_and_load(lambda: SaliencyStudent(config), file.content, what=f"the student {uri}")
    _check_header(header, file.content, str(uri))  # last, because the other errors say more
    return student.eval()


def _check_header(header: Mapping[str, Any], tensors: Mapping[str, Tensor], uri: str) -> None:
    """Compare a student's file with the checksums in its header; fss 0.2 wrote none.

    Raises:
        ValueError: the file is damaged.
    """
    values = {key: value for key, value in header.items() if key != "checksum"}
    whole = header.get("checksum") in (None, config_hash(values))
    if not whole or header.get("weights") not in (None, _tensors_sha256(tensors)):
        raise ValueError(f"the student {uri} is not the one that was written: the file is damaged; copy it again")


def _tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names and values of tensors."""
    from safetensors.torch import save

    return hashlib.sha256(save(dict(tensors))).hexdigest()


def student_config(values: Any, origin: str) -> StudentConfig:
    """Return the configuration of a student from the JSON of a file.

    Raises:
        ValueError: the values are no configuration of a student.
    """
    if not isinstance(values, dict):
        raise ValueError(f"the student's configuration in {origin} must be an object, got {values!r:.80}")
    return from_dict(StudentConfig, renamed(values, _OLD_NAMES))
