"""The inputs that a verification expects on disk, in words: collections, checkpoints and backbone weights.

Every input names the official page that it comes from, the layout of its folder and its number of files.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from fss.collection.collection_file import collection_exists
from pipelines.reproduction.origins import DATA, DataOrigin, checkpoint_page, weights_page

SUFFIXES = (".ckpt", ".pt", ".pth", ".pth.tar", ".safetensors")
"""Endings of files with weights."""


@dataclass(frozen=True, kw_only=True)
class Absent:
    """An input that is not there."""

    what: str
    """The input and its flag."""
    how: str = ""
    """How to get it, as the end of the sentence that ``what`` begins."""
    origin: str = ""
    """Short name of where it comes from, such as ``checkpoints of hsnet``; inputs of the same origin share ``how``."""

    def __str__(self) -> str:
        """Return the whole sentence."""
        return self.what + self.how


def absent_collection(data: str, uri: str | None, *, training: bool = False) -> tuple[Absent, ...]:
    """Describe a collection that is not given or does not exist, and how to make it; an empty tuple if it exists.

    Args:
        data: images of a benchmark: pascal, coco or fss.
        uri: the collection that the user gave, or None.
        training: whether it is the collection of the training images.
    """
    if uri is not None and collection_exists(uri):
        return ()
    source = DATA[data]
    subset = source.subset(training=training)
    flag = f"--training.collections.{data}" if training and subset else f"--collections.{data}"
    collection = uri or (f"{data}-{subset}" if subset else data)
    images = "'s training images" if training and subset else ""
    what = f"a collection of {data}{images} ({flag})" if uri is None else f"the collection {uri} of {flag}"
    how = f", made by: {_ingest_command(source, collection, subset)}; {_described(source, subset)}"
    return (Absent(what=what, how=how, origin=f"collection of {data}{f' {subset}' if subset else ''}"),)


def _ingest_command(source: DataOrigin, collection: str, subset: str | None) -> str:
    words = f"python -m pipelines.ingest --collection {shlex.quote(collection)}"
    words += f" --source.kind {source.kind} --source.path {source.folder}"
    return words + (f" --source.subset {subset}" if subset else "")


def _described(source: DataOrigin, subset: str | None) -> str:
    pages = " and ".join(map(str, source.pages))
    images = f"{source.images[subset]:,} images with masks in the collection"
    return f"the source is {source.layout}; it comes from {pages}; expected: {source.files}, {images}"


def absent_checkpoints(
    folder: str | None, name: str, stems: Sequence[str], *, learner: str, masking: str, shared: bool
) -> Absent:
    """Describe the checkpoints of a model that are not there.

    Args:
        folder: the folder of all models, or None.
        name: the folder of the model in it.
        stems: names of the missing checkpoints, without their endings.
        learner: hsnet, asnet, vat or masksplit.
        masking: masking strategy of the model.
        shared: whether one checkpoint ``model`` serves all folds.
    """
    paths = ", ".join(f"{name}/{stem}" for stem in stems)
    where = "in a folder of models (--models)" if folder is None else f"in {folder} (--models)"
    files = f"the authors' file with one of the endings {', '.join(SUFFIXES)}, or a checkpoint's folder"
    every = f"; one {name}/model serves all folds" if shared else ""
    count = 1 if shared else len(stems)
    return Absent(
        what=f"the checkpoint{'s' * (len(stems) > 1)} {paths} {where}",
        how=f": {files}{every}; the authors' page is {checkpoint_page(learner, masking)}; "
        f"expected: {count} file{'s' * (count > 1)} in the folder {name}; --train trains the model instead",
        origin=f"checkpoints of {name}",
    )


def absent_weights(folder: str | None, stem: str, *, note: str = "") -> Absent:
    """Describe a file of backbone weights that is not there, in ``--weights-folder``; ``note`` ends the sentence."""
    where = (
        "in a folder of backbone weights (--weights-folder)" if folder is None else f"in {folder} (--weights-folder)"
    )
    return Absent(
        what=f"the backbone weights {stem}.pth {where}",
        how=f"; .pt, .ckpt and .safetensors are read too{note}; they come from {weights_page(stem)}; expected: 1 file",
        origin=f"weights of {stem}",
    )
