"""Recognition of annotation files by their content."""

from collections.abc import Callable, Mapping
from typing import Literal

from fss.collection.annotations.base import AnnotationFile
from fss.collection.annotations.coco import read_coco
from fss.collection.annotations.cvat import read_cvat
from fss.collection.annotations.label_studio import read_label_studio
from fss.collection.sources.walk import walk
from fss.core import storage

Form = Literal["png", "coco", "labelstudio", "cvat"]
READERS: Mapping[Form, Callable[[str], AnnotationFile]] = {
    "coco": read_coco,
    "labelstudio": read_label_studio,
    "cvat": read_cvat,
}
_SNIFFED = 4096  # bytes at the beginning of a file that tell its form


def find_files(source: str, form: Form | None) -> tuple[str, Form]:
    """Return the annotation file or the folder of PNGs that ``source`` names, and its form.

    Raises:
        ValueError: there is no such file, or several, or its form is unknown.
    """
    uri = storage.absolute_uri(source)
    fs, path = storage.resolve(uri)
    info = fs.get_file_info(path)
    if info.is_file:
        folder, _, last = uri.rpartition("/")
        if last.lower().endswith((".csv", ".png")):
            return folder, "png"
        sniffed = form or sniff_form(uri)
        if sniffed is None or sniffed == "png":
            raise ValueError(
                f"{source} is neither COCO JSON, nor tasks of Label Studio, nor XML of CVAT; give such a file, "
                "unzipped, or a folder of PNGs"
            )
        return uri, sniffed
    uris = walk(uri).uris
    if form == "png" or (form is None and "masks.csv" in uris):
        return uri, "png"
    forms = {path: found for path, file in uris.items() if (found := sniff_form(file)) and form in (None, found)}
    if len(forms) == 1:
        [(path, found)] = forms.items()
        return uris[path], found
    if forms:
        raise ValueError(
            f"{source} has several annotation files: {', '.join(sorted(forms)[:5])}; give one of them as --from"
        )
    if form is None and any(path.lower().endswith(".png") for path in uris):
        return uri, "png"
    raise ValueError(f"{source} has no masks that can be read; give a folder of PNGs, or a JSON or XML file, unzipped")


def sniff_form(uri: str) -> Form | None:
    """Return the form of an annotation file by its name and first bytes; None if it is something else."""
    suffix = uri.rpartition(".")[2].lower()
    if suffix not in ("json", "xml"):
        return None
    start = storage.read_bytes(uri, _SNIFFED).removeprefix(b"\xef\xbb\xbf").lstrip()
    if suffix == "json":
        return "labelstudio" if start.startswith(b"[") else "coco" if start.startswith(b"{") else None
    return "cvat" if b"<annotations" in start else None
