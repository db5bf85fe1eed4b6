"""A collection of small good pictures with ground truth."""

import numpy as np

from fss.collection import Collection
from fss.collection.schema import image_table, make_image_id, mask_table, part_name
from fss.images.mask_codec import mask_row
from tests.helpers.bad_files.formats import encoded


def fill(collection: Collection, parts: int = 2, rows: int = 3) -> Collection:
    """Write parts of pictures, 40 x 48, and the mask set ``truth`` with classes 7 and 300."""
    truth = collection.create_mask_set("truth", config_hash="0", provenance={"method": "test"})
    mask = np.zeros((40, 48), np.uint8)
    mask[:10], mask[10:15], mask[15] = 1, 2, 255
    for number in range(parts):
        images, masks = [], []
        for row in range(rows):
            data = encoded("PNG")
            identity = make_image_id(data, f"{number}/{row}.png")
            images.append(
                {"image_id": identity, "uri": f"{row}.png", "image": data, "height": 40, "width": 48, "format": "PNG"}
            )
            masks.append(mask_row(identity, mask, [7, 300]))
        collection.write_part(part_name(number), image_table(images))
        truth.write_part(part_name(number), mask_table(masks))
    return collection
