"""The interface of learners, the part of a segmenter after the backbone and the masking strategy."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from fss.models.backbones.base import MapSelection
from fss.models.config import SegmenterConfig
from fss.models.features import Features, map_features
from fss.models.masking import Masking

Channels = Sequence[Sequence[int]]


class Learner(nn.Module):
    """Base class of the learners.

    A learner embeds query and support separately, so that an image in many episodes is embedded once, and compares them
    in ``forward``. All methods process the items of a batch independently.
    """

    selection: ClassVar[MapSelection]
    """The maps that the learner takes from a backbone."""
    shares_embedding: ClassVar[bool] = True
    """Whether the same function embeds query and support, apart from masking."""
    min_side: ClassVar[int] = 80
    """The smallest image side, in pixels."""
    takes_prior: bool = False
    """Whether the learner uses a saliency prior, which is a fifth stage of the query's features: one map
    ``[N,1,h,w]`` in 0..1."""
    support_crop: bool = False
    """Whether supports are also encoded in a crop around their object; see :meth:`add_crops`."""
    learns_alone: ClassVar[bool] = False
    """Whether the learner is trained without saliency prior and crops, which only its answers need."""

    @property
    def is_alone(self) -> bool:
        """Whether the learner needs neither prior nor crops, because it is trained alone."""
        return self.learns_alone and self.training

    @classmethod
    def create(cls, channels: Channels, config: SegmenterConfig) -> "Learner":
        """Create the learner for a backbone.

        Args:
            channels: channels of every selected map of the backbone, by stage.
            config: the segmenter's configuration with its defaults resolved.
        """
        raise NotImplementedError

    def unused_parameters(self) -> list[str]:
        """Return the names of parameters that the published network has but never uses."""
        return []

    def freeze_unused(self) -> None:
        """Freeze the parameters that no loss reaches: DistributedDataParallel would wait for their gradients."""
        for name in self.unused_parameters():
            self.get_parameter(name).requires_grad_(False)

    def embed_query(self, features: Features) -> Features:
        """Embed the backbone maps ``[N,C,h,w]`` of queries."""
        return features

    def embed_support(self, plain: Features, masked: Features, masks: Tensor, masking: Masking) -> Features:
        """Mask and embed the backbone maps of supports.

        Args:
            plain: maps ``[N,C,h,w]`` of the whole photographs.
            masked: maps of the masked photographs; the same object as ``plain`` if the strategy needs only one kind.
            masks: ``[N,H,W]``, 0 and 1.
            masking: the masking strategy.
        """
        return map_features(lambda p, m: masking.merge(p, m, masks), plain, masked)

    def add_crops(self, support: Features, crops: Features, masks: Tensor) -> Features:
        """Join supports with the crops around their objects.

        Args:
            support: embedded maps of the N supports.
            crops: backbone maps of the N crops.
            masks: masks ``[N,H,W]`` of the crops, in 0..1.
        """
        raise NotImplementedError

    def forward(self, query: Features, support: Features, masks: Tensor, shots: int) -> Tensor:
        """Compare queries with their supports.

        Args:
            query: embedded maps ``[N,...]`` of the queries.
            support: embedded maps ``[N * shots,...]`` of the supports; those of an episode are adjacent.
            masks: ``[N * shots,H,W]``, 0 and 1.
            shots: supports per query, which the learner combines.

        Returns:
            Logits ``[N,2,h,w]`` of background and foreground, on a grid of the learner's own size.
        """
        raise NotImplementedError
