"""The few-shot segmenter: a backbone, a masking strategy and a learner; query and support are encoded separately."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fss.core.config import from_dict
from fss.models.backbones.base import Backbone
from fss.models.backbones.factory import create_backbone
from fss.models.confidence import UNCALIBRATED, Calibration, answer_signals
from fss.models.config import Fusion, SegmenterConfig
from fss.models.default_calibrations import default_calibration
from fss.models.features import Features, split_features, take_shot
from fss.models.learners.base import Learner
from fss.models.masking import get_masking
from fss.models.registry import get_learner, resolve_defaults
from fss.models.saliency.network import SaliencyStudent, load_student
from fss.models.shot_fusion import check_fusion, fuse
from fss.models.support_crop import crop_supports


class FewShotSegmenter(nn.Module):
    """Segments the objects in a query that the masks of the supports mark.

    Images are ImageNet-normalised float tensors. Masks contain 0 and 1; pixels to be ignored must be set to 0 before. B
    is the number of episodes, K the number of supports per episode, N any number of images.

    To encode each image only once, as evaluation does::

        features = segmenter.encode_images(images)                    # [N,3,H,W]; needs no masks
        query = segmenter.encode_query(images, features)
        support = segmenter.encode_support(images, masks, features)   # a second pass if needs_support_images
        logits = segmenter.decode(query, support, masks[:, None], size)

    The last stage of what these methods return is the last map of the backbone, as it is: :meth:`signals` compares the
    answer with the supports by it. The learner does not get it.
    """

    calibration: Calibration
    """Turns the signals of an answer into an expected IoU and a probability of presence."""

    def __init__(
        self, backbone: Backbone, learner: Learner, config: SegmenterConfig, prior: SaliencyStudent | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.learner = learner
        self.config = config
        self.masking = get_masking(config.masking)
        self.calibration = UNCALIBRATED
        if prior is not None and not learner.takes_prior:
            advice = ", or give --density-prior" if config.learner == "masksplit" else ""
            raise ValueError(f"{config.learner} takes no saliency prior; leave --saliency-prior out{advice}")
        self.prior = None if prior is None else prior.requires_grad_(False).eval()

    @classmethod
    def from_config(cls, config: SegmenterConfig, *, prior: SaliencyStudent | None = None) -> Self:
        """Build a segmenter; its ``config`` has every default resolved.

        Args:
            config: the settings.
            prior: the saliency prior, if it is not to be loaded from the file that the settings name.

        Raises:
            ValueError: an unknown learner, masking strategy or backbone, weights that do not fit the backbone, or a
                setting that the learner does not support.
        """
        get_masking(config.masking)
        learner_class = get_learner(config.learner)
        config = resolve_defaults(config)
        assert config.frozen is not None and config.dilated is not None
        selection = dataclasses.replace(learner_class.selection, dilated=config.dilated)
        seed = config.seed or 0
        weights = config.backbone_weights
        backbone = create_backbone(config.backbone, selection, backbone_weights=weights, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            learner = learner_class.create(backbone.channels, config)
        learner.freeze_unused()
        backbone.freeze(config.frozen, drifting_batchnorm=config.drifting_batchnorm)
        backbone.to(memory_format=torch.channels_last)
        if prior is None and config.saliency_prior is not None:
            prior = load_student(config.saliency_prior)
        segmenter = cls(backbone, learner, config, prior)
        segmenter.calibration = default_calibration(config, prior=prior is not None)
        return segmenter

    def train(self, mode: bool = True) -> Self:
        """Set the mode. A saliency prior stays in evaluation mode."""
        super().train(mode)
        if self.prior is not None:
            self.prior.eval()
        return self

    def forward(self, query: Tensor, support_images: Tensor, support_masks: Tensor) -> Tensor:
        """Return logits ``[B,2,H,W]`` of background and foreground. The learner combines the K shots, as in prediction.

        Args:
            query: ``[B,3,H,W]``.
            support_images: ``[B,K,3,H,W]``.
            support_masks: ``[B,K,H,W]``, 0 and 1.

        Raises:
            ValueError: the shapes do not match, or the images are smaller than the learner supports.
        """
        query_features, support_features = self.encode_episode(query, support_images, support_masks)
        return self.decode(query_features, support_features, support_masks, query.shape[-2:])

    @torch.no_grad()
    def predict(self, query: Tensor, support_images: Tensor, support_masks: Tensor, fusion: Fusion = "joint") -> Tensor:
        """Return masks ``[B,H,W]``, long, of 0 and 1; arguments as in :meth:`forward`.

        ``fusion`` is the rule of ``fss.models.shot_fusion`` that combines the shots.
        """
        query_features, support_features = self.encode_episode(query, support_images, support_masks)
        return self.decide(query_features, support_features, support_masks, query.shape[-2:], fusion)

    def encode_episode(self, query: Tensor, support_images: Tensor, support_masks: Tensor) -> tuple[Features, Features]:
        """Encode queries, supports and masked supports in one batch of the backbone.

        Returns:
            The embedded maps of B queries and of B * K supports, those of an episode adjacent.

        Raises:
            ValueError: as :meth:`forward`.
        """
        self._check(query, support_images, support_masks)
        supports, masks = support_images.flatten(0, 1), support_masks.flatten(0, 1)
        images = [query]
        if self.masking.needs_plain:
            images.append(supports)
        if self.masking.needs_masked:
            images.append(_mask_images(supports, masks))
        pieces = split_features(self.backbone(torch.cat(images)), [len(part) for part in images])
        plain = self._with_prior(pieces[1], supports)
        support = self.learner.embed_support(plain, pieces[-1], masks, self.masking)
        query_features = self.learner.embed_query(self._with_prior(pieces[0], query))
        support_features = self._with_crops(support, supports, masks)
        return [*query_features, _last_map(pieces[0])], [*support_features, _last_map(pieces[1])]

    def encode_images(self, images: Tensor) -> Features:
        """Encode images ``[N,3,H,W]`` so that they can serve as query and as support.

        Without masking, the result is embedded already, and :meth:`encode_query` and :meth:`encode_support` return it
        unchanged.
        """
        maps = self.backbone(images)
        features = self._with_prior(maps, images)
        embedded = self.learner.embed_query(features) if self._shared_embedding else features
        return [*embedded, _last_map(maps)]

    def encode_query(self, images: Tensor, features: Features | None = None) -> Features:
        """Encode queries ``[N,3,H,W]``, or embed ``features`` that :meth:`encode_images` returned for them."""
        features = self.encode_images(images) if features is None else features
        if self._shared_embedding:
            return features
        *maps, last_map = features
        return [*self.learner.embed_query(maps), last_map]

    def encode_support(self, images: Tensor, masks: Tensor, features: Features | None = None) -> Features:
        """Encode supports ``[N,3,H,W]`` with masks ``[N,H,W]``.

        ``features``, if given, are those that :meth:`encode_images` returned for the images; they save a backbone pass,
        and the images are used only if :attr:`needs_support_images`.
        """
        if features is None and self.masking.needs_plain:
            features = self.encode_images(images)
        if self._shared_embedding:
            assert features is not None
            *embedded, last_map = features
            return [*self._with_crops(embedded, images, masks), last_map]
        masked: Features | None = self.backbone(_mask_images(images, masks)) if self.masking.needs_masked else None
        if self.masking.needs_plain:
            assert features is not None
            *plain, last_map = features
        else:
            assert masked is not None
            plain, last_map = masked, _last_map(masked)
        support = self.learner.embed_support(plain, plain if masked is None else masked, masks, self.masking)
        return [*self._with_crops(support, images, masks), last_map]

    @property
    def needs_support_images(self) -> bool:
        """Whether :meth:`encode_support` encodes images again whose features are given, because of their masks."""
        return self.masking.needs_masked or self.learner.support_crop

    def decode(
        self, query_features: Features, support_features: Features, support_masks: Tensor, size: Sequence[int]
    ) -> Tensor:
        """Compare encoded queries and supports, which the learner combines.

        Args:
            query_features: embedded maps of B queries.
            support_features: embedded maps of B * K supports; those of an episode are adjacent.
            support_masks: ``[B,K,H,W]``, 0 and 1.
            size: height and width of the logits, in pixels.

        Returns:
            Logits ``[B,2,height,width]``.
        """
        shots = support_masks.shape[1]
        masks = support_masks.flatten(0, 1)
        return upsample_logits(self.learner(query_features[:-1], support_features[:-1], masks, shots), size)

    def shot_logits(
        self, query_features: Features, support_features: Features, support_masks: Tensor, size: Sequence[int]
    ) -> Tensor:
        """Return the logits ``[B,K,2,height,width]`` of each shot; arguments as in :meth:`decode`."""
        shots = support_masks.shape[1]
        # The shots are decoded one by one, because the correlation volumes of all shots would need K times the memory.
        logits = [
            self.learner(query_features[:-1], take_shot(support_features[:-1], shot, shots), support_masks[:, shot], 1)
            for shot in range(shots)
        ]
        return torch.stack([upsample_logits(each, size) for each in logits], 1)

    @torch.no_grad()
    def decide(
        self,
        query_features: Features,
        support_features: Features,
        support_masks: Tensor,
        size: Sequence[int],
        fusion: Fusion = "joint",
    ) -> Tensor:
        """Return masks ``[B,height,width]``, long, of 0 and 1; arguments as in :meth:`decode` and :meth:`predict`."""
        return fuse(self.decoder(fusion)(query_features, support_features, support_masks, size), fusion)

    def decoder(self, fusion: Fusion) -> Callable[[Features, Features, Tensor, Sequence[int]], Tensor]:
        """Return :meth:`decode` or :meth:`shot_logits`, whose logits the rule ``fusion`` turns into masks."""
        check_fusion(fusion)
        return self.decode if fusion == "joint" else self.shot_logits

    @torch.no_grad()
    def signals(
        self, probability: Tensor, query_features: Features, support_features: Features, support_masks: Tensor
    ) -> Tensor:
        """Return the signals of answers, ``[B,S]``, for the :attr:`calibration`.

        Args:
            probability: probability of the object ``[B,H,W]``, at any size.
            query_features: what :meth:`encode_query` returned for the B queries.
            support_features: what :meth:`encode_support` returned for the B * K supports.
            support_masks: ``[B,K,H,W]``, 0 and 1.
        """
        return answer_signals(probability, query_features[-1][0], support_features[-1][0], support_masks)

    def _with_crops(self, support: Features, images: Tensor, masks: Tensor) -> Features:
        """Add the crops around the objects to supports, if the learner sees them."""
        if not self.learner.support_crop or self.learner.is_alone:
            return support
        crops, crop_masks = crop_supports(images, masks)
        return self.learner.add_crops(support, self.backbone(crops), crop_masks)

    def _with_prior(self, features: Features, images: Tensor) -> Features:
        """Append the saliency of images ``[N,3,H,W]`` as a fifth stage, if there is a prior."""
        if self.prior is None or self.learner.is_alone:
            return features
        return [*features, [self.prior.saliency(images)]]

    @property
    def _shared_embedding(self) -> bool:
        return self.masking.name == "none" and self.learner.shares_embedding

    def _check(self, query: Tensor, images: Tensor, masks: Tensor) -> None:
        fits = (
            query.ndim == 4
            and images.ndim == 5
            and query.shape[1] == images.shape[2] == 3
            and len(query) == len(images)
            and masks.shape == (*images.shape[:2], *images.shape[3:])
            and query.shape[2:] == images.shape[3:]
        )
        if not fits:
            raise ValueError(
                "expected query [B,3,H,W], support_images [B,K,3,H,W] and support_masks [B,K,H,W] "
                f"with the same B, K, H and W, got {list(query.shape)}, {list(images.shape)} and {list(masks.shape)}"
            )
        side = self.learner.min_side
        if min(query.shape[-2:]) < side:
            raise ValueError(
                f"images of {query.shape[-2]} x {query.shape[-1]} pixels are too small: each side must have at least "
                f"{side} pixels. Resize the images; this network is meant for {self.config.image_size} pixels."
            )


def create_segmenter(**settings: Any) -> FewShotSegmenter:
    """Build a segmenter from the settings of :class:`~fss.models.config.SegmenterConfig`.

    Example:
        >>> create_segmenter(learner="hsnet", masking="hybrid", backbone="resnet50", backbone_weights="pretrained")

    Raises:
        ValueError: an unknown setting, learner, masking strategy or backbone (the message lists the known ones), or
            weights that do not fit the backbone.
    """
    return FewShotSegmenter.from_config(from_dict(SegmenterConfig, settings))


def _mask_images(images: Tensor, masks: Tensor) -> Tensor:
    """Set the background of normalised images ``[N,3,H,W]`` to 0, the mean colour."""
    return images * masks[:, None].to(images.dtype)


def _last_map(maps: Features) -> list[Tensor]:
    """Return the stage that holds only the last map of a backbone."""
    return [maps[3][-1]]


def upsample_logits(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resize logits ``[B,2,h,w]`` of a learner's grid bilinearly to ``size``, height and width in pixels."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=True)
