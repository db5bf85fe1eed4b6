"""Settings of sources and of acceptance."""

import dataclasses
from typing import Annotated, Literal

from annotated_types import Ge, Interval, MinLen

from fss.collection.schema import ALL_SCORES, GATES, HARD_GATES, QUALITY_SCORES
from fss.core.config import config_hash, settings, to_dict

ADDED_SETTINGS = ("images", "mask_folder", "mask_suffix")
"""Settings of a source that the first version did not have."""


@settings
class SourceConfig:
    """Where photographs come from, and what their masks mean."""

    kind: Literal["folder", "fss1000", "voc", "coco", "cityscapes", "sample"] = "folder"
    """Layout of the source. folder: photographs at any depth, alone or with masks, such as images/ beside masks/.
    fss1000: <class>/<n>.jpg with <class>/<n>.png. voc, coco, cityscapes: the standard downloads. sample: pictures
    painted by the library."""
    path: str = ""
    """Local folder or s3:// URI of the source; a sample needs none."""
    link_roots: tuple[str, ...] = ()
    """Local folders that links in the source may point into, such as a cache of DVC; other links out are left out."""
    masks: Literal["auto", "none", "binary", "index"] = "auto"
    """Meaning of a folder's masks. auto: binary masks where there are masks. binary: one value other than 0 marks the
    object, whatever it is. index: a pixel's value is its class id. none: the masks are left out."""
    images: str | None = None
    """Folder of the photographs below the path; "." for all pictures. None: every folder, without those of masks."""
    mask_folder: str | None = None
    """Folder of the masks below the path, with the same names as the photographs. None: found by its name."""
    mask_suffix: str | None = None
    """Text that a mask has after the name of its photograph, such as _mask or _mask.png. None: found by usual names."""
    background: int | None = 0
    """Value of an index mask that stands for no class. None: every value is a class."""
    void: tuple[int, ...] = (255,)
    """Values of an index mask to ignore."""
    class_names: tuple[str, ...] = ()
    """Names of the values 0, 1, 2, ... of an index mask."""
    splits: str | None = None
    """JSON file {"train": [class names], ...} with the class splits of an fss1000 source. None: the source's
    splits.json, if it has one."""
    subset: str = ""
    """Part of the data set to read. voc: all, train, val, trainval or trainaug. coco: all, train2014 or val2014.
    cityscapes: all, train or val."""
    sample: Literal["unlabelled", "labelled"] = "unlabelled"
    """Kind of painted sample: one object per picture for training, or two or three with ground truth for evaluation."""
    count: Annotated[int, Ge(1)] = 256
    """Pictures to paint for a sample."""
    seed: int = 0
    """Seed of the pictures of a sample."""

    def identity(self) -> str:
        """Return a hash of the settings that give a picture and its mask; equal for a source that only grew.

        A setting of :data:`ADDED_SETTINGS` counts only where it differs from its default, so that collections of
        earlier versions keep their identity.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        left_out = {"count", "splits", "link_roots"} | {
            name for name in ADDED_SETTINGS if getattr(self, name) == defaults[name]
        }
        return config_hash({key: value for key, value in to_dict(self).items() if key not in left_out})


@settings
class AcceptanceRule:
    """Which masks a trainer may use."""

    quantile: Annotated[float, Interval(gt=0, le=1)] = 0.65
    """Share of the masks to accept, in (0, 1]: the best of those that pass every gate."""
    scores: Annotated[tuple[str, ...], MinLen(1)] = QUALITY_SCORES
    """Stored scores whose ranks make the quality."""
    gates: tuple[str, ...] = HARD_GATES
    """Stored gates that a mask has to pass."""
    within_clusters: bool = False
    """Rank and accept within each cluster of similar pictures, for mask sets that have clusters (relabels); the best of
    all pictures would come from a few easy clusters."""

    def __post_init__(self) -> None:
        for kind, names, allowed in (("scores", self.scores, ALL_SCORES), ("gates", self.gates, GATES)):
            if unknown := sorted(set(names) - set(allowed)):
                raise ValueError(f"there are no {kind} {', '.join(unknown)}; the {kind} are {', '.join(allowed)}")
