"""Settings of relabelling and of the gate after a round."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

from fss.core.config import settings

_Inside = Annotated[float, Interval(gt=0, lt=1)]
_Share = Annotated[float, Interval(ge=0, le=1)]


@settings
class RelabelConfig:
    """Where supports come from, how often a picture is segmented, and what becomes of the votes."""

    supports: Literal["neighbours", "self", "bank"] = "neighbours"
    """Source of the supports. neighbours: the most similar other pictures with their current masks. self: the picture's
    own current mask. bank: labelled shots of every class, for pictures that seem to contain the class."""
    shots: Annotated[int, Ge(1)] = 3
    """Pictures in a support set of neighbours or of labelled shots."""
    sets: Annotated[int, Ge(2)] = 2
    """Support sets that a picture is segmented with, one after the other; their agreement is a score, so there are at
    least two. A picture's own supports are always two sets."""
    own: Literal["half", "view"] = "half"
    """The two sets of a picture's own supports: the halves of its mask, or its mirror image and a view of its
    object."""
    min_similarity: float = 0.5
    """Smallest cosine similarity of the nearest neighbour; below it a picture is its own support."""
    bank: Annotated[int, Ge(1)] = 20_000
    """Pictures that may be supports, drawn from all candidates; each process encodes each of them once, as long as
    their features fit into its cache."""
    clusters: Annotated[int, Ge(1)] = 32
    """Clusters of the features, within which masks are ranked; there are fewer where a cluster would have less than 20
    pictures."""
    dims: Annotated[int, Ge(1)] = 256
    """Length of a picture's feature vector; longer ones are projected at random."""
    flip: bool = True
    """Segment the mirror image too."""
    scales: tuple[Annotated[float, Gt(0)], ...] = (1.0,)
    """Sides of the picture that the network sees, as shares of its image size; 1 has to be one of them."""
    foreground: _Inside = 0.7
    """Smallest mean probability of the object's pixels."""
    background: _Inside = 0.3
    """Mean probability below which a pixel is background; pixels between background and foreground are ignored."""
    edges: bool = False
    """Align objects with the picture's edges, by a colour model and the bilateral solver; costs tens of milliseconds of
    CPU per picture."""
    margin: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    """Smallest difference between the mean probabilities of the two likeliest classes; below it a pixel is ignored."""
    seed: Annotated[int, Interval(ge=0, lt=2**31)] = 0  # the range of faiss
    """Seed of the bank, the projection, the clusters and the cuts."""

    def __post_init__(self) -> None:
        if self.background > self.foreground:
            raise ValueError(
                f"background is not above foreground, got {self.background} and {self.foreground}; lower background"
            )
        if 1.0 not in self.scales:
            raise ValueError(f"scales are shares above 0 of the network's image size, 1 among them; got {self.scales}")
        if not self.flip and len(self.scales) == 1:
            raise ValueError("one view agrees with nothing: switch flip on, or give more scales")

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {}
        if self.supports == "self":
            reason = "a picture's own supports are always two sets of one; give other supports"
            reasons = dict.fromkeys(("shots", "sets"), reason)
        if self.supports != "neighbours":
            reasons["min_similarity"] = f"supports is {self.supports}, so no neighbours are sought; give neighbours"
        if self.supports == "bank":
            reasons["own"] = "supports is bank, so no picture is its own support; give self or neighbours"
        else:
            reasons["margin"] = f"supports is {self.supports}, so a picture has one class; give bank"
        return reasons


@settings
class RoundGateConfig:
    """Conditions on a new mask set for the next round to go on."""

    min_agreement: float = 0.5
    """Smallest median agreement of the support sets; below it the new masks depend on the supports more than on the
    picture."""
    min_valid: float = 0.7
    """Smallest share of masks that pass every gate, relative to the share before the round."""
    max_area_shift: float = 0.5
    """Largest distance between the histograms of mask areas before and after the round, 0 to 1."""
    max_changed: _Share = 0.4
    """Largest mean share of changed pixels."""
    min_changed: _Share = 0.005
    """Smallest mean share of changed pixels; below it another training would see the same masks."""

    def __post_init__(self) -> None:
        if self.min_changed > self.max_changed:
            raise ValueError(
                f"min_changed is at most max_changed, got {self.min_changed} and {self.max_changed}; lower min_changed"
            )
