"""A relabeller chooses supports for images, runs the segmenters and collects their votes."""

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
    """An image to relabel, with its current mask and its neighbours."""

    image_id: str
    """Id of the image in the collection."""
    error: str | None = None
    """Why the image cannot be used; None where it can."""
    shape: tuple[int, int] = (0, 0)
    """Height and width of the image in pixels."""
    rgb: UInt8 | None = None
    """Canvas of the image, uint8 [S,S,3]."""
    guide: UInt8 | None = None
    """The image at working size, uint8 [h,w,3], where masks follow its edges."""
    mask: UInt8 | None = None
    """Current mask, uint8 [S,S] in {0,1,255}; None where the image has none."""
    neighbours: Sequence[str] = ()
    """Ids of similar images, nearest first."""
    similarity: Sequence[float] = ()
    """Cosine of each neighbour with the image."""

    @property
    def canvas(self) -> UInt8:
        """Canvas of a usable image, uint8 [S,S,3]."""
        assert self.rgb is not None, "an image with an error has no canvas"
        return self.rgb

    @property
    def object(self) -> UInt8:
        """Foreground of the current mask of a usable image, uint8 [S,S] in {0,1}; all 0 without a mask."""
        return np.zeros(self.canvas.shape[:2], np.uint8) if self.mask is None else foreground(self.mask)


class Relabeller:
    """Segments images with a trained segmenter, and with earlier checkpoints of it to measure their stability."""

    def __init__(
        self,
        config: RelabelConfig,
        voter: Voter,
        *,
        earlier: Sequence[Voter] = (),
        bank: ClassBank | None = None,
    ):
        """Combine the parts of a relabeller.

        Args:
            config: supports and views.
            voter: the segmenter.
            earlier: earlier checkpoints with the same image size.
            bank: labelled shots; required where ``config.supports`` is "bank".

        Raises:
            ValueError: a view is too small for the network.
        """
        self.config = config
        self.size = voter.size
        self._voter, self._earlier, self._bank = voter, earlier, bank
        self._views = make_views(flip=config.flip, scales=config.scales)
        smallest, least = min(view.side(self.size) for view in self._views), voter.segmenter.learner.min_side
        if smallest < least:
            raise ValueError(f"a view of {smallest} pixels is too small, the network needs {least}; raise the scales")

    @property
    def seconds(self) -> float:
        """Seconds spent in the networks so far."""
        return sum(voter.seconds for voter in (self._voter, *self._earlier))

    def collect_votes(self, batch: Sequence[RelabelInput]) -> list[VoteSet | str]:
        """Segment a batch of images; for each return its votes, or the reason why it has none."""
        outcomes: list[VoteSet | str] = [item.error or "" for item in batch]
        usable = [index for index, item in enumerate(batch) if item.rgb is not None]
        if usable:
            for index, outcome in zip(usable, self._vote([batch[index] for index in usable]), strict=True):
                outcomes[index] = outcome
        return outcomes

    def _vote(self, batch: Sequence[RelabelInput]) -> list[VoteSet | str]:
        canvases = np.stack([item.canvas for item in batch])
        class_ids, queries, reasons = self._queries(batch, canvases)
        votes = self._voter.vote(canvases, queries, self._views)
        earlier = [voter.vote(canvases, queries, (View(),)) for voter in self._earlier]

        def by_class(index: int, votes: Sequence[Float32]) -> dict[int, Float32]:
            return {c: vote for c, query, vote in zip(class_ids, queries, votes, strict=True) if query.index == index}

        return [
            reasons.get(index)
            or VoteSet(
                votes=by_class(index, votes),
                earlier=[by_class(index, checkpoint) for checkpoint in earlier],
                current=item.mask,
            )
            for index, item in enumerate(batch)
        ]

    def _queries(
        self, batch: Sequence[RelabelInput], canvases: UInt8
    ) -> tuple[list[int], list[SegmentationQuery], dict[int, str]]:
        """Return the class of each query, the queries, and the reasons of images without a query by their index."""
        class_ids: list[int] = []
        queries: list[SegmentationQuery] = []
        reasons: dict[int, str] = {}
        if self._bank is not None:
            for index, present in enumerate(self._bank.present(self._voter.segmenter, canvases)):
                class_ids += present
                queries += [SegmentationQuery(index, self._bank.sets[c]) for c in present]
            return class_ids, queries, reasons
        for index, item in enumerate(batch):
            try:
                queries.append(SegmentationQuery(index, self._support_sets(item)))
                class_ids.append(OBJECT)
            except ValueError as error:
                reasons[index] = f"relabel: {error}"
        return class_ids, queries, reasons

    def _support_sets(self, item: RelabelInput) -> SupportSets:
        return support_sets(self.config, item.image_id, item.canvas, item.object, item.neighbours, item.similarity)
