"""Segmenters that label pictures: they choose the supports, ask, and hand over all answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fss.core.arrays import Float32, UInt8
from fss.relabel.class_bank import ClassBank
from fss.relabel.config import RelabelConfig
from fss.relabel.labels import VoteSet
from fss.relabel.supports import SupportSets, foreground, support_sets
from fss.relabel.views import View, make_views
from fss.relabel.votes import SegmentationQuery, Voter
from fss.saliency.pseudomask import OBJECT


@dataclass(frozen=True, kw_only=True)
class RelabelInput:
    """A picture and what is known of it before it is labelled."""

    image_id: str
    """Its identity."""
    error: str | None = None
    """Why it cannot be used."""
    shape: tuple[int, int] = (0, 0)
    """Height and width."""
    rgb: UInt8 | None = None
    """Its canvas, uint8 [S,S,3]."""
    guide: UInt8 | None = None
    """The picture in its own proportions, where masks shall follow its edges, uint8 [h,w,3]."""
    mask: UInt8 | None = None
    """Its current mask, uint8 [S,S] in {0,1,255}; None where it has none."""
    neighbours: Sequence[str] = ()
    """Ids of similar pictures, nearest first."""
    similarity: Sequence[float] = ()
    """Theirs."""

    @property
    def canvas(self) -> UInt8:
        """The canvas of a picture that can be used."""
        assert self.rgb is not None, "a picture with an error has no canvas"
        return self.rgb

    @property
    def object(self) -> UInt8:
        """What the mask of a picture that can be used shows, uint8 [S,S] in {0,1}; empty where there is none."""
        return np.zeros(self.canvas.shape[:2], np.uint8) if self.mask is None else foreground(self.mask)


class Relabeller:
    """Labels pictures with a segmenter, and asks earlier checkpoints of it whether they would have said the same."""

    def __init__(
        self,
        config: RelabelConfig,
        voter: Voter,
        *,
        earlier: Sequence[Voter] = (),
        bank: ClassBank | None = None,
    ):
        """Put a relabeller together.

        Args:
            config: supports and views.
            voter: the segmenter.
            earlier: earlier checkpoints, of the same image size.
            bank: labelled shots; given where ``config.supports`` is bank.

        Raises:
            ValueError: views that are too small for the network.
        """
        self.config = config
        self.size = voter.size
        self._voter, self._earlier, self._bank = voter, earlier, bank
        self._views = make_views(flip=config.flip, scales=config.scales)
        smallest, least = min(view.side(self.size) for view in self._views), voter.segmenter.learner.minimum_side
        if smallest < least:
            raise ValueError(f"a view of {smallest} pixels is too small, the network needs {least}; raise the scales")

    @property
    def seconds(self) -> float:
        """Seconds that the networks took so far."""
        return sum(voter.seconds for voter in (self._voter, *self._earlier))

    def collect_votes(self, batch: Sequence[RelabelInput]) -> list[VoteSet | str]:
        """Label pictures; for each what was said, or why nothing can be asked."""
        outcomes: list[VoteSet | str] = [known.error or "" for known in batch]
        usable = [place for place, known in enumerate(batch) if known.rgb is not None]
        if usable:
            for place, outcome in zip(usable, self._label([batch[place] for place in usable]), strict=True):
                outcomes[place] = outcome
        return outcomes

    def _label(self, batch: Sequence[RelabelInput]) -> list[VoteSet | str]:
        canvases = np.stack([known.canvas for known in batch])
        asked, refused = self._ask(batch, canvases)
        questions = [question for _, question in asked]
        votes = self._voter.vote(canvases, questions, self._views)
        earlier = [voter.vote(canvases, questions, (View(),)) for voter in self._earlier]
        return [
            refused.get(place)
            or VoteSet(
                votes=_of(place, asked, votes),
                earlier=[_of(place, asked, found) for found in earlier],
                current=known.mask,
            )
            for place, known in enumerate(batch)
        ]

    def _ask(
        self, batch: Sequence[RelabelInput], canvases: UInt8
    ) -> tuple[list[tuple[int, SegmentationQuery]], dict[int, str]]:
        """Questions with the class that each is about, and the pictures that nothing can be asked of."""
        if self._bank is not None:
            present = self._bank.present(self._voter.segmenter, canvases)
            return [
                (c, SegmentationQuery(place, self._bank.sets[c])) for place, ids in enumerate(present) for c in ids
            ], {}
        asked, refused = [], {}
        for place, known in enumerate(batch):
            try:
                asked.append((OBJECT, SegmentationQuery(place, self._sets(known))))
            except ValueError as error:
                refused[place] = f"relabel: {error}"
        return asked, refused

    def _sets(self, known: RelabelInput) -> SupportSets:
        return support_sets(self.config, known.image_id, known.canvas, known.object, known.neighbours, known.similarity)


def _of(place: int, asked: Sequence[tuple[int, SegmentationQuery]], votes: Sequence[Float32]) -> dict[int, Float32]:
    """The votes on one picture, by class."""
    return {c: found for (c, question), found in zip(asked, votes, strict=True) if question.picture == place}
