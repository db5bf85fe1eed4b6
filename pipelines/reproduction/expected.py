"""The inputs that a verification expects on disk, in words: collections, checkpoints and backbone weights."""

import shlex
from collections.abc import Sequence

from fss.collection.collection_file import collection_exists

SUFFIXES = (".ckpt", ".pt", ".pth", ".pth.tar", ".safetensors")
"""Endings of files with weights."""

_DOWNLOADS = {
    "pascal": (
        "voc",
        "VOCdevkit",
        "VOCdevkit/VOC2012 with JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/, and SBD's masks in "
        "VOC2012/SegmentationClassAug/ or benchmark_RELEASE/dataset/cls/",
    ),
    "coco": (
        "coco",
        "COCO2014",
        "COCO2014 with train2014/ and val2014/, and annotations/instances_{train,val}2014.json or the category PNGs "
        "annotations/{train,val}2014/",
    ),
    "fss": ("fss1000", "FSS-1000", "FSS-1000 with <class>/{1..10}.jpg and .png"),
}
"""Of every benchmark: the kind of source, its folder and its layout."""
_SUBSETS = {
    ("pascal", False): "val",
    ("pascal", True): "trainaug",
    ("coco", False): "val2014",
    ("coco", True): "train2014",
}


def absent_collection(data: str, uri: str | None, *, training: bool = False) -> tuple[str, ...]:
    """Describe a collection that is not given or does not exist, and how to make it; an empty tuple if it exists.

    Args:
        data: images of a benchmark: pascal, coco or fss.
        uri: the collection that the user gave, or None.
        training: whether it is the collection of the training images.
    """
    if uri is not None and collection_exists(uri):
        return ()
    kind, folder, layout = _DOWNLOADS[data]
    subset = _SUBSETS.get((data, training))
    flag = f"--training.collections.{data}" if training and subset else f"--collections.{data}"
    collection = uri or (f"{data}-{subset}" if subset else data)
    words = (
        f"python -m pipelines.ingest --collection {shlex.quote(collection)} --source.kind {kind} --source.path {folder}"
    )
    words += f" --source.subset {subset}" if subset else ""
    images = "'s training images" if training and subset else ""
    what = f"a collection of {data}{images} ({flag})" if uri is None else f"the collection {uri} of {flag}"
    return (f"{what}, made by: {words}; the source is {layout}",)


def absent_checkpoints(folder: str | None, name: str, stems: Sequence[str], *, shared: bool) -> str:
    """Describe the checkpoints of a model that are not there.

    Args:
        folder: the folder of all models, or None.
        name: the folder of the model in it.
        stems: names of the missing checkpoints, without their endings.
        shared: whether one checkpoint ``model`` serves all folds.
    """
    paths = ", ".join(f"{name}/{stem}" for stem in stems)
    where = "in a folder of models (--models)" if folder is None else f"in {folder} (--models)"
    files = f"the authors' file with one of the endings {', '.join(SUFFIXES)}, or a checkpoint's folder"
    every = f"; one {name}/model serves all folds" if shared else ""
    return f"the checkpoint{'s' * (len(stems) > 1)} {paths} {where}: {files}{every}"


def absent_weights(folder: str | None, stem: str) -> str:
    """Describe a file of backbone weights that is not there, in ``--weights-folder``."""
    where = (
        "in a folder of backbone weights (--weights-folder)" if folder is None else f"in {folder} (--weights-folder)"
    )
    return f"the backbone weights {stem}.pth {where}; .pt, .ckpt and .safetensors are read too"
