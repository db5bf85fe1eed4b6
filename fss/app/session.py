"""What one person works on in one tab: examples, answers and corrections. It knows nothing of the page."""

import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fss.app.drawing import Drawing, Mark
from fss.app.photographs import Photographs
from fss.core.arrays import IGNORE, BoolArray, Rgb, UInt8
from fss.core.prefetch import batched, prefetch
from fss.images.mask_codec import decode_mask, encode_mask
from fss.inference.examples import Examples
from fss.inference.prediction import UNSURE, Prediction
from fss.inference.predictor import Predictor, SupportWarning
from fss.inference.request_limits import RequestLimits

Kind = Literal["object", "other"]
"""What marks mean: the object to find, or another one that is not meant."""
State = Literal["example", "corrected", "opened", "empty", "found", "not found", "unusable", "open"]
"""opened and empty: as in the mask set that was opened, with an object or without one."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The prediction for a photograph."""

    mask: bytes = b""
    """PNG of a mask in {0,1}; empty if the photograph is unusable."""
    confidence: float = 0.0
    """Expected IoU of the mask, 0..1."""
    presence: float = 0.0
    """Probability that the object is in the photograph, 0..1."""
    found: bool = False
    """Whether the object was found."""
    opened: bool = False
    """Whether the mask was opened from a mask set, and not predicted: it has no confidence."""
    ignored: bytes = b""
    """PNG in {0,1} of the pixels that the opened mask ignores; empty if there are none."""
    error: str = ""
    """Reason why the photograph is unusable."""


@dataclass(kw_only=True)
class Search:
    """A search for the object in all photographs."""

    total: int
    """Photographs to predict."""
    done: int = 0
    """Photographs that are predicted."""
    notes: tuple[str, ...] = ()
    """What the person should know about the examples, one sentence each."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set it to end the search after the current photographs."""


class Session:
    """Examples, answers and corrections by the position of their photograph.

    Masks are kept as PNG. A search runs in a thread of its own; everything else is called by the page alone.
    """

    def __init__(
        self,
        photographs: Photographs,
        predictor: Predictor,
        limits: RequestLimits | None = None,
        *,
        opened: Mapping[int, Answer] = {},
    ) -> None:
        """Start without examples.

        Args:
            photographs: the photographs.
            predictor: the segmenter.
            limits: limits of a search.
            opened: masks of a mask set. A search replaces those that are neither corrected nor examples.
        """
        self.photographs, self.predictor, self.limits = photographs, predictor, limits or RequestLimits()
        self.examples: list[int] = []
        """Photographs whose object is an example, in the order in which they were marked."""
        self.answers: dict[int, Answer] = dict(opened)
        """Predictions, and opened masks."""
        self._drawings: Mapping[Kind, dict[int, Drawing]] = {"object": {}, "other": {}}

    def state(self, position: int) -> State:
        """Return what is known about a photograph."""
        answer = self.answers.get(position)
        if position in self.examples:
            return "example"
        if position in self._drawings["object"]:
            return "corrected"
        if answer is None:
            return "open"
        if answer.opened:
            return "opened" if answer.found else "empty"
        return "unusable" if answer.error else "found" if answer.found else "not found"

    def doubtful(self, position: int) -> bool:
        """Return whether the mask of a photograph is predicted and rather wrong than right."""
        return self.state(position) == "found" and self.answers[position].confidence < UNSURE

    def order(self) -> list[int]:
        """Return all photographs: examples, then masks by their confidence, then where the object is not found."""
        ranks: dict[State, int] = {"example": 0, "not found": 2, "open": 3, "unusable": 4}  # 1: all others

        def key(position: int) -> tuple[float, ...]:
            state, answer = self.state(position), self.answers.get(position, Answer())
            rate = {"found": answer.confidence, "corrected": answer.confidence, "not found": answer.presence}
            return ranks.get(state, 1), -rate.get(state, 0.0), position

        return sorted(range(len(self.photographs)), key=key)

    def drawing(self, position: int, kind: Kind) -> Drawing | None:
        """Return the marks of a photograph; None if there are none."""
        return self._drawings[kind].get(position)

    @property
    def others(self) -> list[int]:
        """Photographs with an object that is not meant."""
        return list(self._drawings["other"])

    def mark(self, position: int, kind: Kind, mark: Mark) -> None:
        """Add a mark. It corrects the answer of the photograph; without one it makes the photograph an example.

        Raises:
            ValueError: the mark is outside of the photograph or contradicts another, or there are too many examples.
        """
        drawing, answer = self.drawing(position, kind), self.answers.get(position)
        corrects = kind == "object" and answer is not None and not answer.error
        becomes_example = kind == "object" and not corrects and position not in self.examples
        if drawing is None and not corrects and mark.tool in ("beside", "erase"):
            raise ValueError("mark the object first; this mark only takes away from its mask")
        if drawing is None:
            self._check_count(becomes_example or kind == "other")
            drawing = Drawing(start=answer.mask if corrects and answer is not None else None)
        rgb = self.photographs.rgb(position)
        drawing.marks.append(_inside(mark, rgb))
        try:
            drawing.mask(rgb)
        except ValueError:
            drawing.marks.pop()
            raise
        self._drawings[kind][position] = drawing
        if becomes_example:
            self.examples.append(position)

    def undo(self, position: int, kind: Kind) -> None:
        """Remove the last mark of a photograph; without marks, the drawing goes too."""
        drawing = self.drawing(position, kind)
        if drawing is not None and drawing.marks:
            drawing.marks.pop()
        if drawing is not None and not drawing.marks:
            self.clear(position, kind)

    def clear(self, position: int, kind: Kind) -> None:
        """Remove all marks of a photograph; its answer counts again."""
        self._drawings[kind].pop(position, None)
        if kind == "object" and position in self.examples:
            self.examples.remove(position)

    def reject(self, position: int) -> None:
        """Correct the answer of a photograph: the object is not in it."""
        empty = np.zeros(self.photographs.rgb(position).shape[:2], np.uint8)
        self.clear(position, "object")
        self._drawings["object"][position] = Drawing(start=encode_mask(empty))

    def add_example(self, position: int) -> None:
        """Make the mask of a photograph an example.

        Raises:
            ValueError: there are too many examples, or the photograph has no mask.
        """
        if position in self.examples:
            return
        mask = self.mask(position)
        if mask is None or not mask.any():
            raise ValueError("nothing is marked in this photograph; mark the object first")
        self._check_count(True)
        answer = self.answers.get(position)
        start = answer.mask if answer is not None else None
        self._drawings["object"].setdefault(position, Drawing(start=start))
        self.examples.append(position)

    def remove_example(self, position: int) -> None:
        """Keep the mask of a photograph as a correction if it had an answer; else remove its marks."""
        drawing = self._drawings["object"].get(position)
        if drawing is None or drawing.start is None or not drawing.marks:
            self.clear(position, "object")
        else:
            self.examples.remove(position)

    def mask(self, position: int, kind: Kind = "object") -> UInt8 | None:
        """Return the mask of a photograph, uint8 [H,W] in {0,1}: as drawn, or else predicted; None without one."""
        drawing, answer = self.drawing(position, kind), self.answers.get(position)
        if drawing is not None:
            return drawing.mask(self.photographs.rgb(position))
        if kind == "other" or answer is None or answer.error:
            return None
        return decode_mask(answer.mask)

    def ignored(self, position: int) -> BoolArray | None:
        """Return the pixels that an opened mask ignores and that are not marked, bool [H,W]; None if there are none."""
        answer, mask = self.answers.get(position), self.mask(position)
        if answer is None or mask is None or not answer.ignored:
            return None
        ignored: BoolArray = (decode_mask(answer.ignored) == 1) & (mask == 0)
        return ignored

    def masks(self) -> Iterator[tuple[int, UInt8]]:
        """Yield the photographs that have a mask, in the order of names, with it: uint8 [H,W] in {0,1,255}.

        These are examples, corrections and answers. What an opened mask ignores is 255 unless it is marked.
        """
        for position in range(len(self.photographs)):
            mask = self.mask(position)
            if mask is not None:
                ignored = self.ignored(position)
                yield position, mask if ignored is None else np.where(ignored, np.uint8(IGNORE), mask)

    def counts(self) -> dict[State, int]:
        """Return the number of photographs in every state that occurs."""
        states = [self.state(position) for position in range(len(self.photographs))]
        return {state: states.count(state) for state in dict.fromkeys(states)}

    def start_search(self) -> Search:
        """Return a search for the object in the photographs that are neither examples nor corrected.

        Raises:
            ValueError: there is no example.
        """
        if not self.examples:
            raise ValueError("mark the object in one photograph first")
        return Search(total=len(self._to_predict()))

    def run_search(self, search: Search) -> None:
        """Predict the photographs; answers appear one after the other. Call it in a thread.

        Raises:
            ValueError: an example marks nothing, or the examples exceed the limits.
        """
        positions = self._to_predict()
        examples = self._encode()
        search.notes = examples.notes

        def read(position: int) -> tuple[int, Rgb | str]:
            try:
                return position, self.photographs.decode(position)
            except ValueError as error:
                return position, str(error)

        size = self.predictor.batch_size
        for batch in batched(prefetch(map(read, positions), 2 * size), size):
            usable = [rgb for _, rgb in batch if not isinstance(rgb, str)]
            predictions = examples.predict_many(usable, batch_size=max(1, len(usable)))
            for position, rgb in batch:
                self.answers[position] = Answer(error=rgb) if isinstance(rgb, str) else _answer(next(predictions))
                search.done += 1
            if search.stop.is_set():
                return

    def _to_predict(self) -> list[int]:
        drawn = self._drawings["object"]
        return [position for position in range(len(self.photographs)) if position not in drawn]

    def _encode(self) -> Examples:
        """Encode the examples and the objects that are not meant."""
        pairs, others = ([self._pair(p, kind) for p in group] for kind, group in self._groups())
        encoded = [self.photographs.encoded(position) for _, group in self._groups() for position in group]
        self.limits.check(encoded, [mask for _, mask in [*pairs, *others]], b"")
        with warnings.catch_warnings(action="ignore", category=SupportWarning):
            return self.predictor.examples([rgb for rgb, _ in pairs], [mask for _, mask in pairs], negatives=others)

    def _groups(self) -> tuple[tuple[Kind, list[int]], tuple[Kind, list[int]]]:
        return ("object", list(self.examples)), ("other", self.others)

    def _pair(self, position: int, kind: Kind) -> tuple[Rgb, UInt8]:
        mask = self.mask(position, kind)
        if mask is None or not mask.any():
            name = self.photographs[position].name
            raise ValueError(f"the example {name} marks nothing; mark the object in it, or remove the example")
        return self.photographs.rgb(position), mask

    def _check_count(self, more: bool) -> None:
        if more and len(self.examples) + len(self.others) >= self.limits.max_supports:
            raise ValueError(
                f"there are {self.limits.max_supports} examples already, and a search takes at most as many; remove "
                "one, or start with a larger --limits.max-supports"
            )


def _answer(prediction: Prediction) -> Answer:
    return Answer(
        mask=encode_mask(prediction.mask),
        confidence=prediction.confidence,
        presence=prediction.presence,
        found=prediction.found,
    )


def _inside(mark: Mark, rgb: Rgb) -> Mark:
    """Return a mark whose points are moved into the photograph."""
    height, width = rgb.shape[:2]
    bounds = (width, height) if mark.tool == "box" else (width - 1, height - 1)
    points = [(min(max(x, 0.0), float(bounds[0])), min(max(y, 0.0), float(bounds[1]))) for x, y in mark.points]
    return Mark(tool=mark.tool, points=points, width=mark.width)
