"""Count the operations of the networks of the published claims, for ``pipelines/reproduction/gpu_cost.py``.

    python -m tests.benchmarks.count_flops

Prints GFLOP per encoded image, per comparison of a query with a support, and per episode of a training step. A multiply
and an add are two operations. Hybrid masking encodes supports twice, which is added where the hours are computed.
"""

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from fss.evaluation.claims import read_claims
from fss.models import create_segmenter
from fss.models.config import TRAINING_FREE, published_image_size
from pipelines.reproduction.requirements import BENCHMARKS, UNKNOWN, backbone_name


def count(learner: str, backbone: str, size: int) -> list[float]:
    """Return GFLOP per encoded image, comparison and training episode (0 for a learner without training)."""
    model = create_segmenter(learner=learner, masking="none", backbone=backbone, image_size=size, frozen=True).eval()
    image, mask = torch.zeros(1, 3, size, size), torch.ones(1, size, size)
    with torch.no_grad():
        query, support = model.encode_query(image), model.encode_support(image, mask)
        with FlopCounterMode(display=False) as encode:
            model.backbone(image)
        with FlopCounterMode(display=False) as decide:
            model.decide(query, support, mask[:, None], (size, size))
    step = 0
    if learner not in TRAINING_FREE:
        model.train()
        with FlopCounterMode(display=False) as training:
            model(
                image.expand(2, -1, -1, -1), image.expand(2, 1, -1, -1, -1), mask.expand(2, 1, -1, -1)
            ).sum().backward()
        step = training.get_total_flops() / 2
    return [round(value / 1e9, 1) for value in (encode.get_total_flops(), decide.get_total_flops(), step)]


def main() -> None:
    """Print one line per network."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    networks = set()
    for claim in read_claims():
        benchmark, learner = BENCHMARKS[claim.dataset], claim.model.lower()
        if claim.model != "FSSDINO" and backbone_name(claim) != UNKNOWN:
            size = published_image_size(learner, "coco" if benchmark == "coco-to-pascal" else benchmark)
            networks.add((learner, backbone_name(claim), size))
    for network in sorted(networks):
        print(network, count(*network), flush=True)


if __name__ == "__main__":
    main()
