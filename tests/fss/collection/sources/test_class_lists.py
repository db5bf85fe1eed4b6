"""Class lists in every form that tools write, and the one line that says what is wrong with others."""

import numpy as np
import pytest

from fss.collection.sources.class_lists import ClassList, parse_class_list
from tests.helpers.fuzzing import damage

BLACK, RED, GREEN = (0, 0, 0), (128, 0, 0), (0, 128, 0)
COLORED = [(0, "background", BLACK), (1, "cup", RED), (2, "tea pot", GREEN)]
NAMED = [(0, "background", None), (1, "cup", None), (2, "tea pot", None)]

FORMS = {
    "CVAT": (
        "labelmap.txt",
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncup:128,0,0:lid,ear:\ntea pot:0,128,0::\n",
        COLORED,
    ),
    "spaces": ("labelmap.txt", "background: 0, 0, 0\ncup : 128, 0, 0\n\ntea pot:0,128,0", COLORED),
    "colon in a name": ("labelmap.txt", "a:b:1,2,3::\n", [(0, "a:b", (1, 2, 3))]),
    "labelmap without colours": ("labelmap.txt", "background:::\ncup:::\ntea pot:::\n", NAMED),
    "name,r,g,b": ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\ncup,128,0,0\ntea pot,0,128,0\n", COLORED),
    "no header": ("classes.csv", "background,0,0,0\ncup,128,0,0\ntea pot,0,128,0\n", COLORED),
    "quotes": ("classes.csv", '"background",0,0,0\n"cup",128,0,0\n"tea pot",0,128,0\n', COLORED),
    "semicolons": ("classes.csv", "name;r;g;b\nbackground;0;0;0\ncup;128;0;0\ntea pot;0;128;0\n", COLORED),
    "other header": ("x.csv", "Klasse,R,G,B\nbackground,0,0,0\ncup,128,0,0\ntea pot,0,128,0\n", COLORED),
    "r,g,b,name": ("x.csv", "r,g,b,name\n0,0,0,background\n128,0,0,cup\n0,128,0,tea pot\n", COLORED),
    "r,g,b,name without header": ("x.csv", "0,0,0,background\n128,0,0,cup\n0,128,0,tea pot\n", COLORED),
    "CSV in a .txt": ("x.txt", "background,0,0,0\ncup,128,0,0\ntea pot,0,128,0\n", COLORED),
    "CamVid": ("label_colors.txt", "0 0 0\tbackground\n128 0 0\tcup\n0 128 0 tea pot\n", COLORED),
    "id,name,count": (
        "classes.csv",
        "id,name,images\n1,cup,109\n7,tea pot,3\n",
        [(1, "cup", None), (7, "tea pot", None)],
    ),
    "id,name": ("classes.csv", "1,cup\n7,tea pot\n", [(1, "cup", None), (7, "tea pot", None)]),
    "Roboflow": ("_classes.csv", "Pixel Value, Class\n0, background\n1, cup\n2, tea pot\n", NAMED),
    "id,name,r,g,b": ("x.csv", "id,name,red,green,blue\n4,cup,128,0,0\n", [(4, "cup", RED)]),
    "id,name,r,g,b without header": ("x.csv", "4,cup,128,0,0\n", [(4, "cup", RED)]),
    "names": ("classes.txt", "background\ncup\n# a comment\n\ntea pot\n", NAMED),
    "names with ids": ("classes.txt", "0 background\n1 cup\n2 tea pot\n", NAMED),
    "ids with colons": ("classes.txt", "0: background\n2: tea pot\n1: cup\n", [NAMED[0], NAMED[2], NAMED[1]]),
    "names with numbers": ("classes.txt", "background\n2 wheels\n", [NAMED[0], (1, "2 wheels", None)]),
    "names in CSV": ("classes.csv", "name\nbackground\ncup\ntea pot\n", NAMED),
    "labelme's labels.txt": ("labels.txt", "__ignore__\nbackground\ncup\ntea pot\n", NAMED),
    "names with commas": ("classes.txt", "tench, Tinca tinca\n", [(0, "tench, Tinca tinca", None)]),
    "composed Unicode": ("classes.txt", "cafe\u0301\n", [(0, "caf\u00e9", None)]),
}


def _entries(classes: ClassList) -> list[tuple[object, ...]]:
    return [(entry.class_id, entry.name, entry.color) for entry in classes.entries]


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_its_classes(form: str, newline: str, mark: str) -> None:
    file, text, expected = FORMS[form]
    assert _entries(parse_class_list((mark + text.replace("\n", newline)).encode(), file)) == expected


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labelmap.txt", "a:0,0,0::\nb:300,0,0::\n", "line 2: the colour '300,0,0' is not three numbers in 0..255"),
        ("labelmap.txt", "a:0,0,0::\nb\n", "line 2: 'b' has not the form NAME:RED,GREEN,BLUE::"),
        ("labelmap.txt", "a:0,0,0::\nb:red::\n", "line 2: 'b:red::' has not the form"),
        ("labelmap.txt", "a:0,0,0::\n\nb:0,0,0::\n", r"line 3: the colour \(0, 0, 0\) is that of line 1 too"),
        ("classes.txt", "cup\npot\ncup\n", "line 3: the name 'cup' is that of line 1 too"),
        ("x.csv", "1,cup\n1,pot\n", "line 2: the id 1 is that of line 1 too"),
        ("x.csv", "id,name\none,cup\n", "line 2: the id 'one' is no number in 0..65535"),
        ("x.csv", "id,name\n1,cup\n70000,pot\n", "line 3: the id '70000' is no number"),
        ("x.csv", "id,name\n1\n", "line 2: 1 values, and no value for name"),
        ("x.csv", "id,name\n1,\n", "line 2: the class has no name"),
        ("x.csv", 'id,name\n1,"cup\n', "line 2: .* is no line of CSV"),
        ("x.csv", "r,g,b\n1,2,3\n", "line 1: no column has the names"),
        ("label_colors.txt", "0 0 0 a\n1 2 b\n", "line 2: '1 2 b' has not the form RED GREEN BLUE NAME"),
        ("classes.txt", "# nothing\n", "it has no classes"),
        ("classes.txt", "x" * 2000, "line 1: 2000 characters are too many"),
        ("classes.txt", "caf\xe9".encode("latin-1"), "it is no UTF-8 text"),
        ("classes.txt", b"\xff\xfec\0u\0p\0", "it is no UTF-8 text"),
        ("classes.txt", "<!DOCTYPE html><html>\n404\n", "a page of the web; download the file itself"),
    ],
)
def test_what_is_wrong_is_said_with_the_line(file: str, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_class_list(text.encode() if isinstance(text, str) else text, file)
    assert "\n" not in str(caught.value) and file in str(caught.value)


def test_roles_are_told_by_names() -> None:
    classes = parse_class_list(b"cup\nVoid\n_background_\nIgnored\nunlabelled\n", "classes.txt")
    assert classes.background == 2 and classes.void == (1, 3, 4) and not classes.has_colors


def test_damaged_lists_are_lists_or_one_line() -> None:
    rng = np.random.default_rng(7)
    for form in FORMS:
        file, text, _ = FORMS[form]
        for _ in range(40):
            try:
                classes = parse_class_list(damage(text.encode(), rng), file)
            except ValueError as error:
                assert file in str(error) and len(str(error).splitlines()) == 1, error
            else:
                assert classes.entries and all(0 <= one.class_id <= 65535 and one.name for one in classes.entries)
