"""Settings that fit an input: small for the painted sample, as published for photographs."""

from dataclasses import dataclass, field
from typing import Literal

from fss.episodes.config import AugmentConfig, SplitConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What the main job takes where the user leaves a setting out."""

    learner: Literal["masksplit", "hsnet", "asnet", "vat"] = "masksplit"
    """The network that compares query and support."""
    masking: Literal["none", "feature", "input", "hybrid"] = "none"
    """How the support mask enters the support features."""
    backbone: str = "resnet50"
    """The network's backbone."""
    image_size: int = 400
    """Side of the square that the network sees, in pixels."""
    steps: int = 20_000
    """Training steps."""
    batch: int = 16
    """Episodes per step."""
    lanes: int = 8
    """Logical lanes of the stream."""
    learning_rate: float = 1e-4
    """Learning rate of Adam."""
    weight_decay: float = 1e-5
    """Weight decay of Adam."""
    ema: float = 0.999
    """Decay of the moving average of the weights."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    held_out: float = 0.05
    """Share of the photographs that is held out to choose the checkpoint."""
    episodes: int = 1000
    """Evaluation episodes per plan."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How masks are cut in two."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How views are drawn."""
    width: int = 128
    """Channels of the network's head."""
    similarity: bool = False
    """Show the network the similarities of query and support."""
    photographs: int = 0
    """Pictures to paint for training."""
    labelled: int = 0
    """Pictures to paint for evaluation."""
    part_size: int = 64
    """Pictures in a part."""


PHOTOGRAPHS = Preset()

# Under six minutes on two cores, without pretrained weights: a tiny network, small pictures, and colours that mean
# something (a sample class is known by its colours and pattern more than by its outline).
SAMPLE = Preset(
    backbone="timm:test_resnet.r160_in1k",
    width=64,
    similarity=True,
    image_size=96,
    steps=360,
    batch=16,
    learning_rate=1e-3,
    ema=0.98,
    checkpoint_every=120,
    held_out=0.1,
    episodes=300,
    augment=AugmentConfig(grey=0.0, hue=0.03, blur=0.2),
    # Nearly every sample photograph shows one object: without a second one beside it no task would need its support.
    split=SplitConfig(vertical=0.5, horizontal=0.5, distractor=0.7),
    photographs=384,
    labelled=192,
    part_size=16,
)


def preset_for(*, sample: bool) -> Preset:
    """Return the settings for the painted sample, or for photographs."""
    return SAMPLE if sample else PHOTOGRAPHS
