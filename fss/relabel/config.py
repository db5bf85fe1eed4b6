"""How masks are made again."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class RelabelConfig:
    """Where supports come from, how often a picture is looked at, and what becomes of the votes."""

    supports: Literal["neighbours", "self", "bank"] = "neighbours"
    """The most similar other pictures with their current masks, the picture's own current mask, or labelled shots of
    classes, each asked for only where it seems to be in the picture."""
    shots: int = 3
    """Pictures in a support set of neighbours or of labelled shots."""
    sets: int = 2
    """Support sets that a picture is segmented with, one after the other; their agreement is a score. A picture's own
    supports are always two sets."""
    own: Literal["half", "view"] = "half"
    """The two sets of a picture's own supports: the halves of its mask, or its mirror image and a view of its
    object."""
    min_similarity: float = 0.5
    """Least cosine of the nearest neighbour; below it a picture is its own support."""
    bank: int = 20_000
    """Pictures that may be supports, drawn from all that can be: each process encodes each of them once, as
    long as their features fit into its cache."""
    clusters: int = 32
    """Clusters of the features, within which masks are ranked; fewer where there are fewer than 20 pictures for one."""
    dims: int = 256
    """Numbers of a picture's feature; longer ones are projected at random."""
    flip: bool = True
    """Also look at the mirror image."""
    scales: tuple[float, ...] = (1.0,)
    """Sides of the picture that the network sees, as shares of its image size; 1 has to be one of them."""
    foreground: float = 0.7
    """Least mean probability of the object's pixels."""
    background: float = 0.3
    """Mean probability below which a pixel is background; what lies between is ignored."""
    edges: bool = False
    """Let objects follow the picture's edges, by a colour model and the bilateral solver; costs tens of milliseconds
    of CPU a picture."""
    margin: float = 0.1
    """Of several classes: where the mean probabilities of the two likeliest are closer, the pixel is ignored."""
    seed: int = 0
    """Of the bank, the projection, the clusters and the cuts."""

    def check(self) -> None:
        """Refuse what cannot be done; ValueError saying what is allowed."""
        for name in ("shots", "bank", "clusters", "dims"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is 1 or more, got {getattr(self, name)}")
        if self.sets < 2:
            raise ValueError(f"sets is 2 or more, or there would be no agreement between them; got {self.sets}")
        if not 0 < self.background <= self.foreground < 1:
            raise ValueError(
                "background and foreground are probabilities in (0, 1), background not above foreground; got "
                f"{self.background} and {self.foreground}"
            )
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin is a difference of probabilities in [0, 1), got {self.margin}")
        if 1.0 not in self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales are shares above 0 of the network's image size, 1 among them; got {self.scales}")
        if not self.flip and len(self.scales) == 1:
            raise ValueError("one view agrees with nothing: switch flip on, or give more scales")


@dataclass(frozen=True, kw_only=True)
class RoundGateConfig:
    """What a new mask set has to show."""

    min_agreement: float = 0.5
    """Least median of the support-set agreement: below it the new masks depend on the supports more than on the
    picture."""
    min_valid: float = 0.7
    """Least share of masks that pass every gate, as a part of the share before."""
    max_area_shift: float = 0.5
    """Largest distance of the histograms of areas, 0 to 1."""
    max_changed: float = 0.4
    """Largest mean share of changed pixels."""
    min_changed: float = 0.005
    """Least mean share of changed pixels: below it another training would see the same masks."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_changed <= self.max_changed <= 1:
            raise ValueError(
                f"min_changed and max_changed are shares, the least first, got {self.min_changed}, {self.max_changed}"
            )
