"""Settings of sources and of acceptance."""

from dataclasses import dataclass
from typing import Literal

from fss.collection.schema import ALL_SCORES, GATES, HARD_GATES, QUALITY_SCORES
from fss.core.config import config_hash, to_dict


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Where photographs come from, and what their masks mean."""

    kind: Literal["folder", "fss1000", "voc", "coco", "cityscapes", "sample"] = "folder"
    """folder: photographs at any depth, or images/ beside masks/. fss1000: <class>/<n>.jpg with <class>/<n>.png.
    voc, coco, cityscapes: the standard downloads' layouts. sample: pictures painted by the library."""
    path: str = ""
    """Local folder or s3:// URI; not for sample."""
    masks: Literal["auto", "none", "binary", "index"] = "auto"
    """Of a folder: auto reads masks/ as binary where it exists; index: a pixel's value is its class id."""
    background: int | None = 0
    """The value of an index mask that stands for no class; None where every value is a class."""
    void: tuple[int, ...] = (255,)
    """Values of an index mask to ignore."""
    class_names: tuple[str, ...] = ()
    """Names of the values 0, 1, 2, ... of an index mask."""
    splits: str | None = None
    """Of fss1000: JSON file {"train": [class names], ...}; by default splits.json in the folder, where there is one."""
    subset: str = ""
    """Of voc: all, train, val or trainaug. Of coco: all, train2014 or val2014. Of cityscapes: all, train or val."""
    sample: Literal["unlabelled", "labelled"] = "unlabelled"
    """Of sample: one object a picture for training, or two or three with ground truth for evaluation."""
    count: int = 256
    """Of sample: pictures to paint."""
    seed: int = 0
    """Of sample: which pictures."""

    def identity(self) -> str:
        """Return a hash of the settings that give a picture and its mask; equal for a source that only grew."""
        return config_hash({key: value for key, value in to_dict(self).items() if key not in ("count", "splits")})


@dataclass(frozen=True, kw_only=True)
class AcceptanceRule:
    """Which masks a trainer may use."""

    quantile: float = 0.65
    """Share to keep, in (0, 1]: the best of the masks that pass every gate."""
    scores: tuple[str, ...] = QUALITY_SCORES
    """Stored scores whose ranks make the quality."""
    gates: tuple[str, ...] = HARD_GATES
    """Stored gates that a mask has to pass."""
    within_clusters: bool = False
    """Rank and keep within each cluster of alike pictures, for sets that have clusters (relabels): the best of all
    pictures would be those of a few easy kinds."""

    def check(self) -> None:
        """Refuse what cannot be applied; ValueError saying what is allowed."""
        if not 0 < self.quantile <= 1:
            raise ValueError(
                f"quantile is a share in (0, 1], got {self.quantile}; 0.65 keeps the best 65 % of the valid masks"
            )
        for kind, given, known in (("scores", self.scores, ALL_SCORES), ("gates", self.gates, GATES)):
            unknown = sorted(set(given) - set(known))
            if unknown:
                raise ValueError(f"there are no {kind} {', '.join(unknown)}; the {kind} are {', '.join(known)}")
        if not self.scores:
            raise ValueError(f"scores is empty: name at least one of {', '.join(ALL_SCORES)}")
