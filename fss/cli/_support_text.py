"""Examples as words of the command line: a picture with its mask, boxes, points or strokes."""

import re
from dataclasses import replace

from fss.inference.prompts import Prompt

FORMS = (
    "PICTURE:MASK, PICTURE:LEFT,TOP,RIGHT,BOTTOM (a box), PICTURE:@X,Y (a point on the object) or PICTURE:@STROKES (a "
    "mask of strokes over it); + joins boxes and points, and -@X,Y is beside the object"
)
_NUMBER = r"-?\d+(?:\.\d+)?"
_STORE = r"(?:s3|file)://"
_PAIR = re.compile(rf"(?P<picture>(?>(?:{_STORE})?).+?):(?P<mask>(?:{_STORE}|[^:])+)")
_BOX = rf"{_NUMBER}(?:,{_NUMBER}){{3}}"
_TERM = re.compile(
    rf"(?:[+;]?(?P<box>{_BOX})|(?P<sign>[+;-]?)@(?:(?P<point>{_NUMBER},{_NUMBER})|(?P<file>.*?[^\d.,@+;-].*?)))"
    rf"(?=[+;-]@|[+;]{_BOX}|$)"
)


def parse_support(text: str, *, filled: bool = False) -> tuple[str, str | Prompt]:
    """Split the text of an example into the picture and its mask or prompt.

    Args:
        text: the text, in one of :data:`FORMS`.
        filled: whether a box means its whole inside instead of the object in it.

    Raises:
        ValueError: the text has none of these forms.
    """
    pair = _PAIR.fullmatch(text)
    if pair is None:
        raise ValueError(f"an example must be {FORMS}; got {text!r}")
    prompt = _parse_prompt(pair["mask"])
    if prompt is None and re.fullmatch(r"@.*|[-\d.,@+;\s]+", pair["mask"]):
        raise ValueError(
            f"{pair['mask']!r} is no mask, and neither a box of four numbers nor a point @X,Y; an example must be "
            f"{FORMS}; got {text!r}"
        )
    if prompt is not None and prompt.boxes:
        prompt = replace(prompt, filled=filled)
    return pair["picture"], prompt or pair["mask"]


def _parse_prompt(text: str) -> Prompt | None:
    """Return the prompt of a text such as 10,20,90,80+@40,40-@5,5; None if it is none."""
    boxes, points, strokes = [], {False: [], True: []}, {False: [], True: []}  # type: ignore[var-annotated]
    position = 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None or (position and term[0][0] not in "+;-"):
            return None
        if term["box"]:
            boxes.append(_numbers(term["box"]))
        elif term["point"]:
            points[term["sign"] == "-"].append(_numbers(term["point"]))
        else:
            strokes[term["sign"] == "-"].append(term["file"])
        position = term.end()
    if any(len(files) > 1 for files in strokes.values()):
        raise ValueError(f"an example takes one picture of strokes on the object and one beside it, got {text!r}")
    on, beside = ((files or [None])[0] for files in strokes.values())
    return Prompt(boxes=boxes, points=points[False], not_points=points[True], strokes=on, not_strokes=beside)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))
