"""The synthetic sample as a source: images are rendered when they are read (see :mod:`fss.synthetic.picture`)."""

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing, RawItem, SourceItem
from fss.images.labels import LabelMask, class_map_labels
from fss.images.limits import DecodeLimits
from fss.synthetic.picture import SAMPLE_CLASSES, SAMPLE_SPLITS, render_sample_image

_SCHEME = "sample://"


def list_items(config: SourceConfig) -> Listing:
    """List the first ``config.count`` images of the sample.

    Every image is drawn independently of the others, so their order is random already and an ingest keeps it: a larger
    count only adds images at the end.

    Raises:
        ValueError: the count is less than 1.
    """
    if config.count < 1:
        raise ValueError(f"count must be at least 1, got {config.count}")
    items = [
        SourceItem(
            relative_path=f"{config.sample}/{index:06d}.jpg", uri=f"{_SCHEME}{config.sample}/{config.seed}/{index}"
        )
        for index in range(config.count)
    ]
    if config.sample == "unlabelled":
        return Listing(items=items, random=True)
    return Listing(
        items=items, labelled=True, classes=dict(SAMPLE_CLASSES), class_splits=dict(SAMPLE_SPLITS), random=True
    )


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Render an image and its ground truth."""
    index = int(item.uri.rsplit("/", 1)[1])
    picture = render_sample_image(index, config.seed, config.sample)
    mask, class_ids = class_map_labels(picture.mask, background=0, void=())
    return RawItem(data=picture.jpeg, label=LabelMask(mask=mask, class_ids=class_ids))
