"""A query as a whole, mirrored and in tiles, which are encoded once for several sets of supports."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fss.core.arrays import UInt8
from fss.inference.converted import QueryNetwork
from fss.models.config import Scales
from fss.models.features import Features
from fss.models.scales import cut_tile, decode_in_scales


class QueryViews:
    """A query whose whole picture is encoded already, and each other view when it is first needed."""

    def __init__(
        self,
        network: QueryNetwork,
        canvases: Callable[[Sequence[UInt8]], Tensor],
        rgb: UInt8,
        whole: Features,
    ) -> None:
        """Take the query.

        Args:
            network: the network.
            canvases: makes the network's input from pictures, as ``Predictor.canvases`` does.
            rgb: the query, uint8 [H,W,3].
            whole: the encoded query.
        """
        self._network, self._canvases, self._rgb, self._whole = network, canvases, rgb, whole
        self._tiles: dict[int, Features] = {}
        self._flipped: Features | None = None

    def probability(
        self, supports: Features, masks: Tensor, scales: Scales, *, flip: bool
    ) -> tuple[NDArray[np.float32], bool]:
        """Return the probability of the object, float32 [H,W], and whether the query was seen in tiles.

        Args:
            supports: encoded supports.
            masks: their masks [1,K,h,w].
            scales: scales in which the query is seen.
            flip: whether it is seen mirrored too.
        """
        logits, tiled = decode_in_scales(
            self._network.decode,
            self._whole,
            supports,
            masks,
            self._rgb.shape[:2],
            scales=scales,
            encode_tiles=lambda _, number: self._tile(number),
            encode_flipped=self._encode_flipped if flip else None,
        )
        probability: NDArray[np.float32] = logits.float().softmax(1)[0, 1].cpu().numpy()
        return probability, bool(tiled)

    def _encode_flipped(self) -> Features:
        if self._flipped is None:
            self._flipped = self._network.encode_query(self._canvases([self._rgb]).flip(-1))
        return self._flipped

    def _tile(self, number: int) -> Features:
        if number not in self._tiles:
            self._tiles[number] = self._network.encode_query(self._canvases([cut_tile(self._rgb, number)]))
        return self._tiles[number]
