"""What every learner is: the trainable part of a segmenter, behind the backbone and the masking strategy."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from fss.models.backbones.base import MapSelection
from fss.models.config import SegmenterConfig
from fss.models.features import Features, map_features
from fss.models.masking import Masking

Channels = Sequence[Sequence[int]]


class Learner(nn.Module):
    """Base of the learners.

    A learner embeds the query and the support apart, so that an image of many episodes is embedded once, and compares
    them in ``forward``. All its methods treat the items of a batch independently.
    """

    selection: ClassVar[MapSelection]
    """The maps that the learner takes from a backbone."""
    shares_embedding: ClassVar[bool] = True
    """Whether query and support are embedded by the same function (apart from masking)."""
    min_side: ClassVar[int] = 80
    """The smallest image side, in pixels."""

    @classmethod
    def create(cls, channels: Channels, config: SegmenterConfig) -> "Learner":
        """Build the learner for a backbone whose kept maps have these channels, by stage."""
        raise NotImplementedError

    def unused_parameters(self) -> list[str]:
        """Name the parameters that the published network holds but never uses; they get no gradient."""
        return []

    def embed_query(self, features: Features) -> Features:
        """Prepare the query's backbone maps ``[N,C,h,w]``."""
        return features

    def embed_support(self, plain: Features, masked: Features, masks: Tensor, masking: Masking) -> Features:
        """Mask and prepare the support's maps.

        Args:
            plain: maps of the whole photographs ``[N,C,h,w]``.
            masked: maps of the masked photographs; the same object as ``plain`` where the strategy needs one kind only.
            masks: ``[N,H,W]``.
            masking: the strategy.
        """
        return map_features(lambda p, m: masking.merge(p, m, masks), plain, masked)

    def forward(self, query: Features, support: Features, masks: Tensor, shots: int) -> Tensor:
        """Compare ``N`` query pyramids with ``N * shots`` support pyramids and return logits ``[N,2,h,w]``.

        With ``shots`` above 1 the learner sees the supports of a query jointly; an episode's supports are adjacent.

        Args:
            query: embedded query maps, ``[N,...]``.
            support: embedded support maps, ``[N * shots,...]``.
            masks: ``[N * shots,H,W]``.
            shots: supports per query.
        """
        raise NotImplementedError
