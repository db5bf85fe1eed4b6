"""What the masks of a source mean, with the classes of a file: the same for all of its masks, and part of its listing.

A class named background stands for no class, and classes named void or ignored are ignored (the names are in
:mod:`fss.collection.sources.class_lists`). The settings ``background`` and ``void`` may name ids too. In a table of
colours without a background, every class is a class, and black is the background unless a class is black.
"""

import dataclasses
import json
from dataclasses import dataclass

import numpy as np

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing
from fss.collection.sources.class_lists import ClassEntry, ClassList, Color, read_class_list
from fss.collection.sources.walk import Tree
from fss.core import storage
from fss.core.arrays import IGNORE
from fss.images.decode_errors import DecodeError
from fss.images.label_samples import LabelPicture, decode_label_picture
from fss.images.labels import ColorTable, Index, LabelMask, interpret_labels
from fss.images.limits import DecodeLimits

OWN_FILES = ("labelmap.txt", "classes.csv", "class_dict.csv", "_classes.csv", "label_colors.txt", "classes.txt")
"""Names of class lists that a folder may have, best first."""
_BLACK = (0, 0, 0)
_VOC_VOID = (224, 224, 192)  # colour of ignored pixels in the palette of PASCAL VOC
_SETTING = {"index": "classes", "colors": "colors"}  # that takes the class list, by the meaning of the masks
_DEFAULT_BACKGROUND, _DEFAULT_VOID = 0, (IGNORE,)  # of the settings


@dataclass(frozen=True, kw_only=True)
class MaskMeaning:
    """How to read every mask of a source that has a class list."""

    by: str
    """"index": values are class ids. "colors": colours are classes. "either": told from each mask."""
    background: int | None
    """Class id that stands for no class."""
    void: tuple[int, ...]
    """Class ids to ignore."""
    colors: tuple[tuple[Color, int], ...] = ()
    """Class id by colour, in the order of the list."""
    class_ids: tuple[int, ...] | None = None
    """Values of an index mask that are classes; None allows every value."""
    colors_file: str | None = None
    """File to give as --source.colors if the masks turn out to have colours."""

    def as_json(self) -> str:
        """Return the meaning as JSON."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "MaskMeaning":
        """Return the meaning that :meth:`as_json` wrote."""
        values = json.loads(text)
        values["colors"] = tuple((tuple(color), class_id) for color, class_id in values["colors"])
        return cls(**values)

    def read(self, data: bytes, limits: DecodeLimits | None = None) -> LabelMask:
        """Read a mask.

        Raises:
            DecodeError: as :func:`fss.images.labels.read_labels`.
        """
        return self.interpret(decode_label_picture(data, limits))

    def interpret(self, picture: LabelPicture) -> LabelMask:
        """Return the mask that a decoded label picture shows.

        Raises:
            DecodeError: the picture does not have this meaning.
        """
        if self.by == "colors" or (self.by == "either" and self._has_colors(picture)):
            return interpret_labels(picture, self._color_table())
        allowed = None if self.class_ids is None else frozenset(self.class_ids)
        if self.by == "index" and picture.palette is not None and self._has_other_palette(picture):
            text = "the palette has the colours of the classes in another order than the class list; give"
            raise DecodeError("ambiguous", f"{text} --source.colors {self.colors_file} to read colours")
        try:
            return interpret_labels(picture, Index(background=self.background, void=self.void, class_ids=allowed))
        except DecodeError as error:
            if error.reason != "colors" or self.colors_file is None:
                raise
            text = f"the mask has colours instead of one class id per pixel; give --source.colors {self.colors_file}"
            raise DecodeError("colors", text) from error

    def _has_other_palette(self, picture: LabelPicture) -> bool:
        """Return whether all palette numbers of a mask have colours of the list, but not those of the same classes."""
        assert picture.values is not None
        table, values = dict(self.colors), [int(value) for value in np.unique(picture.values)]
        ids = [table.get(_color_of(picture, value)) for value in values]
        return None not in ids and ids != values and len(set(ids)) == len(ids)

    def _color_table(self) -> ColorTable:
        return ColorTable(class_ids=dict(self.colors), background=self.background, void=self.void)

    def _has_colors(self, picture: LabelPicture) -> bool:
        """Return whether the colours of a mask tell its classes, rather than its values.

        Palette numbers that have the colours of the list in its order mean the same either way; other palettes are
        read by colour. Grey values are colours only if the list has them all.
        """
        if picture.values is None:
            return bool(self.colors)
        if not self.colors:
            return False
        values = [int(value) for value in np.unique(picture.values)]
        table = dict(self.colors)
        if picture.palette is None:
            return all((value, value, value) in table for value in values)
        return any(table.get(_color_of(picture, value)) != value for value in values if value != IGNORE)


def _color_of(picture: LabelPicture, value: int) -> Color:
    assert picture.palette is not None
    red, green, blue = (int(sample) for sample in picture.palette[value])
    return red, green, blue


def index_meaning(classes: ClassList, config: SourceConfig) -> MaskMeaning:
    """Return the meaning of index masks whose values a list names."""
    background = config.background
    if background == _DEFAULT_BACKGROUND and classes.background is not None:
        background = classes.background
    return MaskMeaning(
        by="index",
        background=background,
        void=tuple(sorted({*config.void, *classes.void})),
        colors=tuple((entry.color, entry.class_id) for entry in classes.entries if entry.color is not None),
        colors_file=classes.file if classes.has_colors else None,
    )


def color_meaning(classes: ClassList, config: SourceConfig, by: str = "colors") -> MaskMeaning:
    """Return the meaning of masks whose colours a list names.

    Raises:
        ValueError: a class of the list has no colour.
    """
    without = [entry.name for entry in classes.entries if entry.color is None]
    if without:
        raise ValueError(
            f"{classes.file} has no colour for {without[0]!r}; the forms are NAME:RED,GREEN,BLUE and name,r,g,b"
        )
    colors = {entry.color: entry.class_id for entry in classes.entries if entry.color is not None}
    ids = set(colors.values())
    chosen = config.background if config.background != _DEFAULT_BACKGROUND else None
    background = chosen if chosen is not None else classes.background
    if background is None and _BLACK not in colors:
        background = next(number for number in range(len(ids) + 1) if number not in ids)
        colors = {**colors, _BLACK: background}
        by = "colors"  # the list does not say which value is the background
    void = {*classes.void, *(config.void if config.void != _DEFAULT_VOID else ())}
    if config.kind == "voc" and _VOC_VOID not in colors and IGNORE not in ids:
        colors[_VOC_VOID] = IGNORE
        void.add(IGNORE)
    return MaskMeaning(
        by=by,
        background=background,
        void=tuple(sorted(void)),
        colors=tuple(colors.items()),
        class_ids=tuple(sorted(ids)) if by == "either" else None,
    )


def given_class_list(tree: Tree, config: SourceConfig) -> ClassList | None:
    """Return the class list of the settings: a path, or the name of a file in the source's folder.

    Raises:
        ValueError: the file cannot be read, or is no class list.
    """
    file = config.colors if config.colors is not None else config.classes
    if file is None:
        return None
    filesystem, path = storage.resolve(file)
    if file in tree.uris and not filesystem.get_file_info(path).is_file:
        return dataclasses.replace(read_class_list(tree.uris[file]), file=file)
    return read_class_list(file)


def own_class_list(tree: Tree) -> ClassList | None:
    """Return the class list that a folder has itself, or that its subfolders (``train``, ``valid``) have alike.

    Raises:
        ValueError: a file is no class list, or the subfolders have different ones.
    """
    for depth in (0, 1):
        for name in OWN_FILES:
            paths = [path for path in tree.uris if path.count("/") == depth and path.rpartition("/")[2] == name]
            lists = [dataclasses.replace(read_class_list(tree.uris[path]), file=path) for path in paths]
            for other in lists[1:]:
                if other.entries != lists[0].entries:
                    raise ValueError(f"{lists[0].file} and {other.file} have different classes; keep one")
            if lists:
                return lists[0]
    return None


def class_names(classes: ClassList, meaning: MaskMeaning) -> dict[int, str]:
    """Return the names of the classes by id, without background and ignored classes."""
    left_out = {meaning.background, *meaning.void}
    return {entry.class_id: entry.name for entry in classes.entries if entry.class_id not in left_out}


def declare_classes(listing: Listing, tree: Tree, config: SourceConfig) -> Listing:
    """Return the listing of a folder with the names and the meaning that a class list gives to its masks.

    Raises:
        ValueError: the class list cannot be read, is none, or has no colours where masks have them.
    """
    if config.meaning not in ("index", "colors"):
        return listing
    classes, notes = given_class_list(tree, config), listing.notes
    if classes is None and (config.meaning == "colors" or not config.class_names):
        setting = f"--source.{_SETTING[config.meaning]} FILE"
        try:
            classes = own_class_list(tree)
        except ValueError as error:
            raise ValueError(f"{error}; {setting} gives another class list") from error
        if classes is not None:
            notes = (*notes, f"the classes are those of {classes.file} in the folder; {setting} gives others")
    if classes is None and config.meaning == "colors":
        raise ValueError(
            "masks=colors needs a colour per class; give --source.colors FILE with a line NAME:RED,GREEN,BLUE per class"
        )
    if classes is None:
        return _with_named_values(listing, config)
    meaning = (color_meaning if config.meaning == "colors" else index_meaning)(classes, config)
    warnings = (*listing.warnings, *warnings_of(classes, meaning))
    names = dict(enumerate(config.class_names)) or class_names(classes, meaning)
    return with_meaning(dataclasses.replace(listing, classes=names, notes=notes, warnings=warnings), meaning)


def _with_named_values(listing: Listing, config: SourceConfig) -> Listing:
    """Return a listing whose values the settings name, if they do; names mean background and void as in a file."""
    if not config.class_names:
        return listing
    entries = (ClassEntry(number, name) for number, name in enumerate(config.class_names) if name)
    classes = ClassList("--source.class-names", tuple(entries))
    meaning = index_meaning(classes, config)
    listing = dataclasses.replace(listing, warnings=(*listing.warnings, *warnings_of(classes, meaning)))
    if not classes.void and meaning.background == config.background:  # as without names, also in earlier versions
        return listing
    return with_meaning(dataclasses.replace(listing, classes=class_names(classes, meaning)), meaning)


def warnings_of(classes: ClassList, meaning: MaskMeaning) -> tuple[str, ...]:
    """Return a warning if a class is read as the background although its name says otherwise."""
    hidden = next((one.name for one in classes.entries if one.class_id == meaning.background), None)
    if hidden is None or meaning.background == classes.background:
        return ()
    text = f"class {meaning.background}, {hidden!r} in {classes.file}, is read as the background"
    return (f"{text}; give --source.background None if it is a class, or put a line background before it",)


def with_meaning(listing: Listing, meaning: MaskMeaning) -> Listing:
    """Return a listing whose masks all have a meaning."""
    text = meaning.as_json()
    items = [item if item.mask_uri is None else dataclasses.replace(item, annotation=text) for item in listing.items]
    return dataclasses.replace(listing, items=items, shared_annotation=text)
