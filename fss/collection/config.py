"""Settings of sources and of acceptance."""

from collections import Counter
from typing import Annotated, Literal

from annotated_types import Ge, Interval, MinLen

from fss.collection.schema import ALL_SCORES, GATES, HARD_GATES, QUALITY_SCORES
from fss.core.config import config_hash, settings, without_added
from fss.core.privacy import Public

ADDED_SETTINGS = ("images", "mask_folder", "mask_suffix", "annotations", "image_column", "mask_column")
"""Settings of a source that the first version did not have."""

WITH_CLASS_LISTS = ("folder", "voc", "webdataset", "parquet")
"""Kinds of sources whose classes a file may name."""
BY_VALUE = ("folder", "webdataset", "parquet")
"""Kinds of sources whose masks have the meaning that ``masks`` declares."""
SHARDS = ("webdataset", "parquet")
"""Kinds of sources whose files contain many photographs each."""

_KINDS_OF = {
    "path": ("folder", "fss1000", "voc", "coco", "cityscapes", "labelme", "webdataset", "parquet"),
    "masks": ("folder", "fss1000", "webdataset", "parquet"),
    "images": ("folder", "webdataset", "coco"),
    "mask_folder": ("folder", "webdataset"),
    "mask_suffix": ("folder", "webdataset"),
    "annotations": ("coco",),
    "background": ("folder", "webdataset", "parquet", "voc"),
    "void": ("folder", "webdataset", "parquet", "voc"),
    "class_names": BY_VALUE,
    "splits": ("fss1000",),
    "subset": ("voc", "coco", "cityscapes"),
    "sample": ("sample",),
    "count": ("sample",),
    "seed": ("sample",),
}
"""Kinds of sources that have a setting; all have the others, or refuse them."""

DUPLICATE_DISTANCE = 4
"""Default of the largest number of bits in which the hashes of near-duplicates differ.

Measured on 1,500 photographs (DUTS, ECSSD): copies of a quarter of the side or of JPEG quality 20 differ in 0 to 7
bits, 99 % of them in at most 4; different photographs in at least 8.
"""
MOST_DUPLICATE_DISTANCE = 6
"""Largest distance that a search for near-duplicates allows; different photographs can be nearly as close."""
PART_BYTES = 2**26
"""Default of the largest size of a part in bytes."""


@settings
class SourceConfig:
    """Where photographs come from, and what their masks mean."""

    kind: Literal["folder", "fss1000", "voc", "coco", "cityscapes", "labelme", "webdataset", "parquet", "sample"] = (
        "folder"
    )
    """Layout of the source. folder: photographs at any depth, alone or with masks, such as images/ beside masks/.
    fss1000: <class>/<n>.jpg with <class>/<n>.png. voc, cityscapes: the standard downloads. coco: COCO's download, or
    any export in its form (Roboflow, Label Studio, CVAT, ...). labelme: <name>.jpg with labelme's <name>.json.
    webdataset: *.tar shards of <key>.jpg with <key>.mask.png or <key>.png. parquet: Parquet files with a column of
    images, as Hugging Face stores data sets. sample: pictures painted by the library."""
    path: str = ""
    """Local folder or s3:// URI of the source; a sample needs none."""
    link_roots: tuple[str, ...] = ()
    """Local folders that links in the source may point into, such as a cache of DVC; other links out are left out."""
    masks: Literal["auto", "none", "binary", "index", "colors"] = "auto"
    """Meaning of a folder's masks. auto: binary masks where there are masks. binary: one value other than 0 marks the
    object, whatever it is. index: a pixel's value is its class id. colors: a pixel's colour is its class. none: the
    masks are left out."""
    colors: str | None = None
    """File with a name and colour per class, for masks whose colours are classes (folder, voc), as lines
    NAME:RED,GREEN,BLUE or as CSV name,r,g,b."""
    classes: str | None = None
    """File with the class names of index masks (folder, voc), as CSV id,name or as one name per line for the ids 0, 1,
    2 and so on. None: the folder's own classes.csv, classes.txt or labelmap.txt, if it has one."""
    images: str | None = None
    """Folder of the photographs below the path; "." for all pictures. None: every folder, without those of masks."""
    mask_folder: str | None = None
    """Folder of the masks below the path, with the same names as the photographs. None: found by its name."""
    mask_suffix: str | None = None
    """Text that a mask has after the name of its photograph, such as _mask or _mask.png. None: found by usual names."""
    annotations: str | None = None
    """JSON file of a coco source, below its path or elsewhere. None: found by its name or content."""
    image_column: str | None = None
    """Column of the photographs of a parquet source. None: found by its name and type."""
    mask_column: str | None = None
    """Column of the masks of a parquet source. None: found by its name and type."""
    background: int | None = 0
    """Class id of an index or colour mask that stands for no class. None: every id is a class."""
    void: tuple[int, ...] = (255,)
    """Class ids of an index or colour mask to ignore."""
    class_names: tuple[str, ...] = ()
    """Names of the values 0, 1, 2, ... of an index mask, instead of those of a file."""
    order: Literal["shuffled", "source"] = "shuffled"
    """Order of the photographs in the parts. shuffled: by a hash of their paths, so that a training meets all folders
    at any time. source: by their paths, such as the frames of a video one after another."""
    splits: str | None = None
    """JSON file {"train": [class names], ...} with the class splits of an fss1000 source. None: the source's
    splits.json, if it has one."""
    subset: str = ""
    """Part of the data set to read. voc: all, train, val, trainval or trainaug. coco: all, or the name in
    instances_<name>.json or of a folder, such as val2017 or valid. cityscapes: all, train or val."""
    sample: Literal["unlabelled", "labelled"] = "unlabelled"
    """Kind of painted sample: one object per picture for training, or two or three with ground truth for evaluation."""
    count: Annotated[int, Ge(1)] = 256
    """Pictures to paint for a sample."""
    seed: int = 0
    """Seed of the pictures of a sample."""

    def __post_init__(self) -> None:
        named = [name for name in ("colors", "classes") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(
                "colors and classes are both given; a file with colours also has the names, so give colors"
            )
        for name in named:
            if self.kind not in WITH_CLASS_LISTS:
                raise ValueError(
                    f"{name} is for the kinds {', '.join(WITH_CLASS_LISTS)}; a source of kind {self.kind} has its own "
                    "classes"
                )
            meaning = "colors" if name == "colors" else "index"
            if self.masks not in ("auto", meaning):
                raise ValueError(
                    f"{name} is for masks={meaning}, but masks={self.masks} is given; leave one of them out"
                )
        if self.kind == "fss1000" and self.masks not in ("auto", "binary"):
            raise ValueError(
                f"masks is {self.masks}, but the masks of a source of kind fss1000 are binary; leave it out, or give "
                "another kind"
            )
        if twice := sorted(name for name, count in Counter(self.class_names).items() if count > 1):
            listed = ", ".join(map(repr, twice))
            raise ValueError(f"class_names has {listed} more than once; give each class a name of its own")
        columns = [name for name in ("image_column", "mask_column") if getattr(self, name) is not None]
        if columns and self.kind != "parquet":
            raise ValueError(f"{columns[0]} is for the kind parquet, but the kind is {self.kind}; leave it out")

    def without_effect(self) -> dict[str, str]:
        """Return why settings have no effect beside the others, by their names."""
        reasons = {
            name: f"it is for a source of kind {' or '.join(kinds)}, but kind is {self.kind}; give --source.kind"
            for name, kinds in _KINDS_OF.items()
            if self.kind not in kinds
        }
        if self.kind in BY_VALUE and self.meaning not in ("index", "colors"):
            reason = f"masks is {self.meaning}; give --source.masks index or colors"
            reasons |= dict.fromkeys(("background", "void", "class_names"), reason)
        return reasons

    @property
    def meaning(self) -> Literal["auto", "none", "binary", "index", "colors"]:
        """Meaning of the masks: ``masks``, or what a file of classes implies."""
        return "colors" if self.colors is not None else "index" if self.classes is not None else self.masks

    def identity(self) -> str:
        """Return a hash of the settings that give a picture and its mask; equal for a source that only grew.

        The contents of the files of ``colors``, ``classes`` and ``splits`` are part of the listing. A setting of
        :data:`ADDED_SETTINGS` counts only where it differs from its default, so that collections of earlier versions
        keep their identity.
        """
        without_effect = {"count", "splits", "link_roots", "colors", "classes", "order"}
        values = without_added(self, ADDED_SETTINGS)
        return config_hash({name: value for name, value in values.items() if name not in without_effect})


@settings
class AcceptanceRule:
    """Which masks a trainer may use."""

    quantile: Annotated[float, Interval(gt=0, le=1)] = 0.65
    """Share of the masks to accept, in (0, 1]: the best of those that pass every gate."""
    scores: Annotated[tuple[str, ...], MinLen(1), Public()] = QUALITY_SCORES
    """Stored scores whose ranks make the quality."""
    gates: Annotated[tuple[str, ...], Public()] = HARD_GATES
    """Stored gates that a mask has to pass."""
    within_clusters: bool = False
    """Rank and accept within each cluster of similar pictures, for mask sets that have clusters (relabels); the best of
    all pictures would come from a few easy clusters."""

    def __post_init__(self) -> None:
        for kind, names, allowed in (("scores", self.scores, ALL_SCORES), ("gates", self.gates, GATES)):
            if unknown := sorted(set(names) - set(allowed)):
                raise ValueError(f"there are no {kind} {', '.join(unknown)}; the {kind} are {', '.join(allowed)}")
