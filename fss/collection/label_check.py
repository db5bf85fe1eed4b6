"""A plausibility check of the ground truth of a collection: what looks wrong, one sentence each, with the remedy.

A mask can be read without an error and still be wrong: a palette that is inverted, ids that no class list names, a
mask that belongs to another photograph. The check reads counts alone and decodes no mask.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from fss.collection.config import BY_VALUE, SourceConfig
from fss.collection.mask_set import MaskSet
from fss.collection.schema import error_reason, read_notes
from fss.collection.sources import SourceItem
from fss.core import storage
from fss.core.arrays import IGNORE

VOID = 0.95  # largest plausible share of ignored pixels
COVERED = 0.5  # largest plausible mean share of a picture that classes cover beside a background
MISSING = 0.1  # largest plausible share of photographs without a mask beside masks without a photograph
NAMED = 5  # names, ids and reasons in one sentence
_IN_LISTING = ("several-masks", "shared-mask")  # reasons that the warnings of the listing are about
_MINUS_ONE = 65535  # as an unsigned number of 16 bits
_BY_FOLDER = ("fss1000", "sample")  # kinds whose classes do not come from the values of masks


@dataclass(kw_only=True)
class LabelSummary:
    """Counts over the ground truth of a collection."""

    photographs: int = 0
    """Number of usable photographs."""
    masks: int = 0
    """Number of photographs with a mask."""
    without: Counter[str] = field(default_factory=Counter)
    """Number of usable photographs without a mask, by reason."""
    first: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """URI and error of the first photographs without a mask, by reason."""
    classes: Counter[int] = field(default_factory=Counter)
    """Number of masks that show a class, by class id."""
    covered: float = 0.0
    """Sum over the masks of the share of the picture that classes cover."""
    notes: Counter[str] = field(default_factory=Counter)
    """Sums of the notes of the parts, such as ``void-pixels``."""

    def add(self, other: "LabelSummary") -> None:
        """Add the counts of later parts."""
        self.photographs += other.photographs
        self.masks += other.masks
        self.covered += other.covered
        for name in ("without", "classes", "notes"):
            getattr(self, name).update(getattr(other, name))
        for reason, rows in other.first.items():
            self.first[reason] = [*self.first.get(reason, ()), *rows][:NAMED]


def summarize_labels(truth: MaskSet) -> LabelSummary:
    """Count masks, reasons and classes of a mask set, in one pass over its parts."""
    total = LabelSummary()
    with ThreadPoolExecutor(8) as pool:
        for summary in pool.map(lambda part: _summarize_part(truth, part), truth.ordered_parts()):
            total.add(summary)
    return total


def check_pairs(
    items: Sequence[SourceItem], unmatched: Sequence[str], config: SourceConfig, *, limit: int | None = None
) -> None:
    """Check that a labelled source has a mask for a photograph at all, before anything is written.

    Raises:
        ValueError: no photograph has a mask; the message names the first photographs and the first masks.
    """
    if config.kind == "sample" or any(_has_mask(item) for item in items[:limit]):
        return
    if any(_has_mask(item) for item in items):
        raise ValueError(f"none of the first {limit} photographs of {config.path} has a mask; give a larger --limit")
    photographs = ", ".join(item.relative_path for item in items[:NAMED])
    masks = f"masks without a photograph, such as {', '.join(unmatched)}" if unmatched else "no other masks"
    folder = (
        "; name them with --source.mask-folder and --source.mask-suffix, or leave them out with --source.masks none"
    )
    raise ValueError(
        f"no photograph of {config.path} has a mask: there are {len(items)} photographs, such as {photographs}, and "
        f"{masks}. A mask belongs to the photograph of its name{folder if config.kind == 'folder' else ''}"
    )


def check_labels(
    summary: LabelSummary,
    config: SourceConfig,
    *,
    classes: Mapping[int, str],
    unmatched: Sequence[str] = (),
    complete: bool = True,
) -> tuple[str, ...]:
    """Return what looks wrong about the ground truth, one sentence each.

    Args:
        summary: counts over the ground truth.
        config: the source.
        classes: names of the class list of the source; empty if it has none.
        unmatched: first masks of the source without a photograph.
        complete: whether all photographs of the source were ingested, not only the first ones.
    """
    if not summary.photographs:
        return ()
    if not summary.masks:
        reasons = _errors(summary, summary.without, config)
        return (f"none of the {summary.photographs} photographs has a mask that can be used: {reasons}",)
    return (
        *_missing(summary, config, unmatched),
        *_values(summary, config),
        *_surrounding(summary, config),
        *_class_ids(summary, config, classes, complete=complete),
        *_reading(summary),
    )


def _missing(summary: LabelSummary, config: SourceConfig, unmatched: Sequence[str]) -> Iterator[str]:
    """Yield notes on photographs without a mask.

    Masks for a few photographs only are usual in semi-supervised data; names that fit on neither side are not.
    """
    without = Counter({reason: n for reason, n in summary.without.items() if reason not in _IN_LISTING})
    absent = without.pop("missing-mask", 0)
    if unmatched and absent > MISSING * summary.photographs:
        names = ", ".join(_relative(uri, config) for uri, _ in summary.first["missing-mask"])
        verb = "has" if absent == 1 else "have"
        yield (
            f"{absent} of {summary.photographs} photographs {verb} no mask, such as {names}; masks without a "
            f"photograph: {', '.join(unmatched)}, ..."
        )
    if resized := without.pop("size-mismatch", 0):
        uri, error = summary.first["size-mismatch"][0]
        sizes = error.partition(": ")[2]
        subject = _number(resized, "mask has", "masks have")
        yield f"{subject} another size than the photograph, such as that of {_relative(uri, config)}: {sizes}"
    if without:
        yield f"{_number(without.total(), 'mask', 'masks')} cannot be used: {_errors(summary, without, config)}"


def _values(summary: LabelSummary, config: SourceConfig) -> Iterator[str]:
    """Yield notes on shares of pixels: nearly all ignored, no class at all, or too many covered."""
    ignored = summary.notes["void-pixels"] / max(1, summary.notes["pixels"])
    covered = summary.covered / summary.masks
    by_value = config.kind in BY_VALUE and config.meaning == "index"
    if ignored > VOID:
        remedy = "; give --source.masks binary if 255 marks the object, or --source.void with the values to ignore"
        yield f"{_percent(ignored)} of the pixels of the masks are ignored{remedy if by_value else ''}"
    elif not summary.classes:
        remedy = "; if 0 is a class as well, give --source.background None" if by_value else ""
        yield f"no mask shows a class: all pixels are background{remedy}"
    elif covered > COVERED and config.background is not None and config.kind != "cityscapes":
        if by_value:
            remedy = "if 0 is a class as well, give --source.background None"
        elif config.meaning == "colors":
            remedy = "if one of them is the background, give its id as --source.background"
        elif config.kind in BY_VALUE:
            remedy = (
                "if that is the background, the masks are inverted; give --source.masks index --source.background 255 "
            )
            remedy += "where 0 marks the object of grey masks"
        else:
            remedy = "if that is the background, the masks are inverted; look at some with fss inspect --sheet"
        yield f"the classes cover {_percent(covered)} of a picture on average; {remedy}"


def _surrounding(summary: LabelSummary, config: SourceConfig) -> Iterator[str]:
    """Yield a note on a few masks that look inverted among others; the mean share of a picture tells of many."""
    count = summary.notes["surrounding"]
    binary = config.kind in ("folder", "fss1000") and config.meaning in ("auto", "binary")
    if count and binary and summary.covered <= COVERED * summary.masks:
        subject = _number(count, "mask has", "masks have")
        yield f"{subject} an object on all edges of the picture around a background; look whether it is inverted"


def _class_ids(
    summary: LabelSummary, config: SourceConfig, classes: Mapping[int, str], *, complete: bool
) -> Iterator[str]:
    """Yield notes on classes: only one, or ids without a name."""
    names = {class_id: name for class_id, name in classes.items() if class_id != config.background}
    by_value = config.kind in BY_VALUE and config.meaning == "index"
    if len(summary.classes) == 1 < min(len(names), summary.masks) and complete and config.kind not in _BY_FOLDER:
        (class_id,) = summary.classes
        name = f"{class_id} ({names[class_id]})" if class_id in names else str(class_id)
        remedy = "; if they mark one object, give --source.masks binary" if by_value else ""
        yield f"all masks show the class {name} only, although the class list has {len(names)}{remedy}"
    unnamed = {class_id: count for class_id, count in sorted(summary.classes.items()) if class_id not in classes}
    if by_value and (count := unnamed.pop(_MINUS_ONE, 0)):
        subject = _number(count, "mask holds", "masks hold")
        yield (
            f"{subject} the value {_MINUS_ONE}, which is -1 in 16 bits; if it marks ignored pixels, give --source.void "
            f"{_MINUS_ONE}"
        )
    largest = max((class_id for class_id in summary.classes if class_id != _MINUS_ONE), default=0)
    if by_value and summary.notes["void-pixels"] and largest > IGNORE and IGNORE in config.void:
        yield (
            f"pixels of {IGNORE} are ignored, although the masks hold ids up to {largest}; give --source.void "
            f"{_MINUS_ONE} if {IGNORE} is a class"
        )
    if classes and unnamed:
        counts = [f"{class_id} (in {_number(count, 'mask', 'masks')})" for class_id, count in unnamed.items()]
        remedy = "; name them with --source.classes, or ignore them with --source.void" if by_value else ""
        ids = _number(len(unnamed), "id", "ids")
        yield f"the class list lacks {ids} that the masks hold: {_some(counts)}{remedy}"


def _reading(summary: LabelSummary) -> Iterator[str]:
    """Yield the notes of the parts: masks and EXIF, and objects of annotation files."""
    if turned := summary.notes["exif-turned"]:
        subject = _number(turned, "mask was", "masks were")
        yield f"{subject} drawn on the stored pixels of a photograph that EXIF turns, and turned with it"
    if ambiguous := summary.notes["exif-ambiguous"]:
        subject = _number(ambiguous, "mask belongs", "masks belong")
        yield (
            f"{subject} to a photograph that EXIF turns or mirrors without a change of size, and counts as drawn on "
            "the upright picture; look at some with fss inspect --sheet"
        )
    left_out = Counter({name: count for name, count in summary.notes.items() if name.startswith("objects: ")})
    del left_out["objects: too-small"]  # nothing to paint; every large data set has such objects
    if left_out:
        reasons = [f"{count} {name.removeprefix('objects: ')}" for name, count in left_out.most_common()]
        yield f"{_number(left_out.total(), 'object was', 'objects were')} left out: {_some(reasons)}"


def _summarize_part(truth: MaskSet, part: str) -> LabelSummary:
    masks = truth.read_part(part, ["classes", "error"])
    images = truth.collection.read_part(part, ["uri", "height", "width", "error"])
    summary = LabelSummary(notes=Counter(read_notes(masks)))
    for image, row in zip(images.to_pylist(), masks.to_pylist(), strict=True):
        if image["error"]:
            continue
        summary.photographs += 1
        if row["error"]:
            reason = error_reason(row["error"])
            summary.without[reason] += 1
            first = summary.first.setdefault(reason, [])
            if len(first) < NAMED:
                first.append((image["uri"], row["error"]))
            continue
        shown = [entry for entry in row["classes"] or () if entry["pixels"]]
        summary.masks += 1
        summary.classes.update(entry["id"] for entry in shown)
        summary.covered += sum(entry["pixels"] for entry in shown) / (image["height"] * image["width"])
    return summary


def _has_mask(item: SourceItem) -> bool:
    """Return whether the source has a mask for a photograph, or several that it could be."""
    return any((item.mask_uri, item.annotation, item.mask_error))


def _errors(summary: LabelSummary, without: Counter[str], config: SourceConfig) -> str:
    """Return the counts of some reasons, and the first error of the most frequent one that is about a file."""
    reasons = [f"{count} {reason}" for reason, count in without.most_common()]
    _, reason = max((reason != "missing-mask", count, reason) for reason, count in without.items())[1:]
    uri, error = summary.first[reason][0]
    return f"{_some(reasons)}, such as that of {_relative(uri, config)}: {error}"


def _relative(uri: str, config: SourceConfig) -> str:
    root = storage.absolute_uri(config.path) if config.path else ""
    return uri.removeprefix(f"{root}/") if root else uri


def _number(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return ", ".join(words[:NAMED]) + more


def _percent(share: float) -> str:
    return f"{share:.0%}"
