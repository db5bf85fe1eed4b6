"""Open a page in the browser: mark an object in one photograph, find it in the others, correct and export the masks.

    fss app --photographs ~/photos
    fss app --photographs ~/photos --model runs/masksplit --collection photos
    fss app --collection photos
    fss app --collection photos --mask-set student
    fss app --photographs ~/photos --host 0.0.0.0

The page shows the photographs of a folder or of a collection. Mark the object in one of them with a box, a click or a
brush, and press Find: the masks of the others come sorted by confidence. Correct a mask with the brush, add it as an
example, and search again. The masks are exported as COCO or PNG, or written into a mask set of the collection, which
is made from the folder if it does not exist. With --mask-set, the masks of a set are there from the start, to be
looked through and corrected; Write makes another set of them. A second tab of the page shows mask sets of the
collection side by side.

Without --model the segmenter is density, which needs no training, as in fss predict.

The page listens on 127.0.0.1, where only this machine reaches it. Other machines reach it with --host; they need the
token in the address that is printed. Whoever opens the page can write mask sets into the collection.

The page needs NiceGUI: pip install 'fss-masks[app]'.
"""

import secrets
from typing import Annotated, Any

from annotated_types import Ge, Interval

from fss.cli._segmenter import SegmenterFlags, open_segmenter
from fss.core.config import settings
from fss.core.exit_codes import SUCCESS
from fss.inference.request_limits import RequestLimits


@settings
class Config(SegmenterFlags):
    """The arguments of ``fss app``."""

    photographs: str | None = None
    """Folder or s3:// URI of photographs, at any depth. None: the photographs of the collection."""
    collection: str | None = None
    """Collection for mask sets; it is made from the photographs if there is none. None: masks are only exported."""
    mask_set: str | None = None
    """Mask set of the collection whose masks are opened, to correct them."""
    object_class: str | None = None
    """Class of the opened masks. None: the only one of the mask set."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is all addresses of this machine."""
    port: Annotated[int, Interval(ge=1, le=65535)] = 8090
    """Port to listen on."""
    token: str | None = None
    """Word that opens the page. None: no word on 127.0.0.1, and a random one on other hosts."""
    max_photographs: Annotated[int, Ge(1)] = 2000
    """Most photographs on the page, the first ones by name."""
    limits: RequestLimits = RequestLimits()
    """Limits of a search, as those of a served model."""


def run(config: Config) -> int:
    """Serve the page until it is interrupted, and return the exit code.

    Raises:
        ValueError: there is no photograph, model, mask set or class, or the port is in use.
    """
    if config.photographs is None and config.collection is None:
        raise ValueError("give a folder (--photographs FOLDER) or a collection (--collection COLLECTION)")
    if config.mask_set is None and config.object_class is not None:
        raise ValueError("--object-class selects the masks of a mask set; give --mask-set NAME, or leave it out")
    if config.mask_set is not None and (config.photographs is not None or config.collection is None):
        raise ValueError("--mask-set opens masks of a collection with its photographs; give --collection alone")
    from fss.app.guard import LOOPBACK
    from fss.app.opened_masks import open_masks
    from fss.app.photographs import of_collection, of_folder
    from fss.app.server import check_port, serve
    from fss.app.workspace import Workspace
    from fss.collection import Collection

    check_port(config.host, config.port)
    size = {"max_pixels": config.limits.max_pixels, "most": config.max_photographs}
    opened: dict[str, Any] = {}
    if config.photographs is not None:
        photographs = of_folder(config.photographs, **size)
    else:
        assert config.collection is not None
        collection = Collection.open(config.collection)
        photographs = of_collection(collection, **size)
        if config.mask_set is not None:
            masks, label = open_masks(collection.mask_set(config.mask_set), photographs, config.object_class)
            opened = {"opened": masks, "mask_set": config.mask_set, "label": label}
    predictor, model = open_segmenter(config, "fss app")
    workspace = Workspace(
        photographs=photographs,
        predictor=predictor,
        model=model,
        limits=config.limits,
        collection=config.collection,
        **opened,
    )
    token = config.token or (None if config.host in LOOPBACK else secrets.token_urlsafe(16))
    serve(workspace, host=config.host, port=config.port, token=token)
    return SUCCESS
