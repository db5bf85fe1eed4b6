"""A segmenter that answers queries by ONNX Runtime or OpenVINO, which are often faster than PyTorch on a CPU.

PyTorch encodes the supports, once for all queries, so that masks are resized and applied by its own arithmetic. Two
programs do the rest: one encodes a query, and one compares it with K supports. They are written once per network and
number of supports (ten to sixty seconds each), kept in the user's cache (``fss.inference.program_store``), and checked
on inputs on which programs are known to differ (``fss.inference.parity``).
"""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from fss.inference.parity import CHANGED, check_episodes, compare
from fss.inference.program_store import ProgramStore
from fss.inference.runtimes import NAMES, Program, check_backend, open_program, write_onnx
from fss.models.config import Backend, Precision
from fss.models.features import Features
from fss.models.segmenter import FewShotSegmenter, upsample_logits

_ALLOWED: dict[Precision, tuple[float, float]] = {"fp32": (1e-3, CHANGED), "bf16": (0.1, 1e-3)}
"""Difference of the logits, as a share of the largest one, and share of changed decisions, by precision."""
_LOGGER = logging.getLogger(__name__)


class QueryNetwork(Protocol):
    """The part of a segmenter that answers queries."""

    def encode_query(self, images: Tensor) -> Features:
        """Encode queries ``[N,3,H,W]``."""

    def decode(
        self, query_features: Features, support_features: Features, support_masks: Tensor, size: Sequence[int]
    ) -> Tensor:
        """Return logits ``[B,2,*size]``, see ``FewShotSegmenter.decode``."""


class ConvertedSegmenter:
    """Encodes queries and compares them with supports by a runtime; a :class:`QueryNetwork`."""

    def __init__(self, segmenter: FewShotSegmenter, backend: Backend, precision: Precision = "fp32") -> None:
        """Convert the encoder of a segmenter, on the CPU, whose convolutions are not fused yet.

        Raises:
            ValueError: a package is missing, the precision does not fit, or the network cannot be converted.
        """
        version = check_backend(backend, precision)
        self.name = f"{NAMES[backend]} {version}" + (f", {precision}" if precision != "fp32" else "")
        """What runs the queries."""
        self._segmenter, self._backend, self._precision = segmenter, backend, precision
        self._check = f"{backend}-{version}-{precision}"
        self._store = ProgramStore(segmenter)
        self._side = segmenter.config.image_size
        images = torch.zeros(1, 3, self._side, self._side)
        with torch.no_grad():
            self._query_maps = [len(stage) for stage in segmenter.encode_query(images)]
        self._encode = self._open("query", _QueryEncoder(segmenter), (images,))
        self._comparisons: dict[int, Program] = {}

    def encode_query(self, images: Tensor) -> Features:
        """Encode queries ``[N,3,H,W]`` one by one: batches are no faster on a CPU."""
        encoded = [self._encode([image]) for image in torch.split(images, 1)]
        return _stages([torch.cat(maps) for maps in zip(*encoded, strict=True)], self._query_maps)

    def decode(
        self, query_features: Features, support_features: Features, support_masks: Tensor, size: Sequence[int]
    ) -> Tensor:
        """Compare one query with K supports; arguments as in ``FewShotSegmenter.decode``.

        Raises:
            ValueError: the learner cannot be converted, or its answers differ too much.
        """
        self.prepare(support_masks.shape[1])
        values = _comparison_inputs(query_features, support_features, support_masks)
        (logits,) = self._comparisons[support_masks.shape[1]](values)
        return upsample_logits(logits, size)

    @torch.no_grad()
    def prepare(self, shots: int) -> None:
        """Convert the comparison with K supports, ahead of the first query; errors as in :meth:`decode`."""
        if shots in self._comparisons:
            return
        images, masks = torch.zeros(shots, 3, self._side, self._side), torch.ones(shots, self._side, self._side)
        query, support = self.encode_query(images[:1]), self._segmenter.encode_support(images, masks)
        counts = [len(stage) for stage in query[:-1]], [len(stage) for stage in support[:-1]]
        module = _Comparison(self._segmenter.learner, *counts, shots)
        values = _comparison_inputs(query, support, masks[None])
        self._comparisons[shots] = self._open(f"compare-{shots}", module, values)
        self._check_parity(shots)

    def _open(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Program:
        """Open a program, which is written first if it is missing."""

        def write(path: Path) -> None:
            _LOGGER.info("converting the network (%s) for %s; this is done once", name, NAMES[self._backend])
            start = time.monotonic()
            try:
                with torch.no_grad():
                    write_onnx(module.eval(), inputs, path)
            except Exception as error:  # the exporter raises errors of many kinds
                config = self._segmenter.config
                raise ValueError(
                    f"{config.learner} on {config.backbone} cannot be converted to ONNX "
                    f"({type(error).__name__}: {str(error).strip().splitlines()[0]:.200}); use --backend torch"
                ) from error
            _LOGGER.info("converted in %.0f s, kept in %s", time.monotonic() - start, self._store.folder)

        return open_program(self._store.program(name, write), self._backend, self._precision)

    @torch.no_grad()
    def _check_parity(self, shots: int) -> None:
        """Compare the answers with those of PyTorch, unless this runtime has passed before.

        Raises:
            ValueError: they differ too much.
        """
        check = f"{self._check}-{shots}"
        if self._store.passed(check):
            return
        parity = compare(self._pairs(shots))
        logits, decisions = _ALLOWED[self._precision]
        if not parity.within(logits=logits, decisions=decisions):
            del self._comparisons[shots]
            advice = (
                "use --backend torch" if self._precision == "fp32" else "leave out --precision, or use --backend torch"
            )
            raise ValueError(
                f"the answers of {self.name} differ from PyTorch's by {parity}; allowed are {logits:.0e} and "
                f"{decisions:.0e}; {advice}"
            )
        _LOGGER.info("checked: the logits differ from PyTorch's by at most %s", parity)
        self._store.note_passed(check, parity)

    def _pairs(self, shots: int) -> Iterator[tuple[Tensor, Tensor]]:
        size = self._side, self._side
        for query, supports, masks in check_episodes(1, shots, *size):
            support = self._segmenter.encode_support(supports[0], masks[0])
            networks: list[QueryNetwork] = [self, self._segmenter]
            answer, expected = (each.decode(each.encode_query(query), support, masks, size) for each in networks)
            yield answer, expected


class _QueryEncoder(nn.Module):
    """Encodes a query to a list of all maps."""

    def __init__(self, segmenter: FewShotSegmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> list[Tensor]:
        return [m for stage in self.segmenter.encode_query(images) for m in stage]


class _Comparison(nn.Module):
    """Runs a learner on lists of maps, and returns its logits on its own grid."""

    def __init__(self, learner: nn.Module, query: list[int], support: list[int], shots: int) -> None:
        super().__init__()
        self.learner, self.counts, self.shots = learner, (query, support), shots

    def forward(self, *values: Tensor) -> Tensor:
        query, support = self.counts
        *maps, masks = values
        first = sum(query)
        logits: Tensor = self.learner(_stages(maps[:first], query), _stages(maps[first:], support), masks, self.shots)
        return logits


def _comparison_inputs(query: Features, support: Features, masks: Tensor) -> tuple[Tensor, ...]:
    """Return the values of :class:`_Comparison`: what the learner gets, without the last maps of the backbone."""
    maps = [m for features in (query, support) for stage in features[:-1] for m in stage]
    return (*maps, masks.flatten(0, 1).float())


def _stages(maps: Sequence[Tensor], counts: Sequence[int]) -> Features:
    """Arrange a list of maps in stages of the given lengths."""
    remaining = iter(maps)
    return [[next(remaining) for _ in range(count)] for count in counts]
