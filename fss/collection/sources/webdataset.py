"""WebDataset: tar shards whose members are photographs and masks (https://github.com/webdataset/webdataset).

``a/0001.jpg`` with ``a/0001.mask.png``, ``a/0001.seg.png`` or ``a/0001.png`` is a photograph with its mask, as are
``images/0001.jpg`` and ``masks/0001.png``: the names that a folder's masks may have. The listing reads the headers of
the shards, and a part reads only its own byte ranges. Other members, such as ``.cls`` and ``.json``, are left out.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from fss.collection.config import SourceConfig
from fss.collection.sources.base import Listing, RawItem, SourceItem
from fss.collection.sources.folder import LABELLED, interpret_mask, pair_listing
from fss.collection.sources.mask_layout import MaskLayout, find_layout
from fss.collection.sources.mask_meaning import declare_classes
from fss.collection.sources.names import normalized
from fss.collection.sources.reading import read_pair
from fss.collection.sources.shards import ignored_with, list_contents
from fss.collection.sources.tar_index import Member, index_tar
from fss.collection.sources.tar_ranges import read_ranges
from fss.collection.sources.walk import Tree, is_photograph, stem_and_suffix, walk
from fss.images.decode_errors import DecodeError
from fss.images.limits import DecodeLimits

_COMPRESSED = tuple(
    f"{tar}{suffix}" for tar in (".tar", ".t") for suffix in (".gz", "gz", ".bz2", "bz2", ".xz", "xz", ".zst", "zst")
)


def list_items(config: SourceConfig) -> Listing:
    """List the photographs of all shards, in the order of the shards and of their members.

    Raises:
        ValueError: there are no shards, a shard is compressed, or the settings require masks and there are none.
        OSError: the object store does not answer.
    """
    tree = walk(config.path, config.link_roots)
    shards = [path for path in tree.uris if path.lower().endswith(".tar")]
    _check_shards(tree, shards, config.path)
    contents = list_contents(tree, shards, index_tar)
    contents.damages.update({path: index.damage for path, index in contents.tables.items() if index.damage})
    ignored = ignored_with(tree.ignored, contents) + Counter({"other files": len(tree.uris) - len(shards)})
    members, owners = {}, {}
    for shard, index in contents.tables.items():
        ignored += index.ignored
        members.update({f"{shard}/{name}": member for name, member in index.members.items()})
        owners.update(dict.fromkeys((f"{shard}/{name}" for name in index.members), shard))
    pictures = [path for path in members if is_photograph(path)]
    ignored["other members of shards"] += len(members) - len(pictures)
    files = Tree({path: f"{tree.uris[owners[path]]}{path.removeprefix(owners[path])}" for path in pictures})
    listing = _list_pictures(tree, files, ignored, config)
    ranges = {files.uris[path]: (tree.uris[owners[path]], members[path]) for path in pictures}
    items = [_locate(item, ranges) for item in listing.items]
    order = {path: number for number, path in enumerate(pictures)}
    return replace(
        listing,
        items=sorted(items, key=lambda item: order[item.relative_path]),
        warnings=(*contents.warnings, *listing.warnings),
    )


def read_item(item: SourceItem, config: SourceConfig, limits: DecodeLimits) -> RawItem:
    """Read one photograph and its mask; failures are reported in the result."""
    return item_reader([item], config, limits)(item)


def item_reader(
    items: Sequence[SourceItem], config: SourceConfig, limits: DecodeLimits
) -> Callable[[SourceItem], RawItem]:
    """Read the bytes of some items, and return a function that gives the photograph and mask of each.

    Raises:
        OSError: the object store does not answer.
    """
    contents = read_ranges(items, limits)

    def load(uri: str) -> bytes:
        data = contents[uri]
        if isinstance(data, DecodeError):
            raise data
        return data

    def read(item: SourceItem) -> RawItem:
        return read_pair(
            item,
            limits,
            lambda: interpret_mask(load(str(item.mask_uri)), item, config, limits),
            lambda: load(item.uri),
        )

    return read


def _check_shards(tree: Tree, shards: Sequence[str], uri: str) -> None:
    compressed = [path for path in tree.uris if path.lower().endswith(_COMPRESSED)]
    if compressed:
        raise ValueError(
            f"{compressed[0]} in {uri} is compressed, and a compressed tar file has no random access: every part would "
            f"unpack all that lies before its photographs. Decompress the shards (gunzip {compressed[0]}), whose "
            "photographs are compressed anyway"
        )
    if not shards:
        raise ValueError(f"{uri} has no shards, *.tar; give the folder that contains them as --source.path")


def _list_pictures(tree: Tree, files: Tree, ignored: Counter[str], config: SourceConfig) -> Listing:
    """Return the listing of pictures whose paths begin with their shard.

    Args:
        tree: files of the source, which may have a class list beside the shards.
        files: pictures in the shards.
        ignored: number of files and members left out, by reason.
        config: settings of the source.
    """
    layout = find_layout(files.uris, config)
    if layout is None:
        layout = _png_beside(files.uris)
    masks = layout.masks if layout is not None else {}
    if not masks and config.meaning in LABELLED:
        raise ValueError(
            f"masks={config.meaning} needs masks, but the shards in {config.path} have no members <key>.mask.png, "
            "<key>.seg.png, or <key>.png beside <key>.jpg; give --source.mask-suffix TEXT"
        )
    if layout is None or not masks or config.masks == "none":
        photographs = files.uris if layout is None else layout.photographs
        counts = ignored + Counter(masks=len(masks))
        items = [SourceItem(relative_path=path, uri=files.uris[path]) for path in photographs]
        return Listing(items=items, ignored=dict(+counts))
    return declare_classes(pair_listing(files, layout, ignored, config), tree, config)


def _png_beside(pictures: Iterable[str]) -> MaskLayout | None:
    """Return the layout of <key>.png beside <key>.jpg, if at least half of the PNGs have such a photograph."""
    keys = {path: normalized(stem_and_suffix(path)[0]) for path in pictures}
    photographs = {path: key for path, key in keys.items() if stem_and_suffix(path)[1] != ".png"}
    masks = {path: key for path, key in keys.items() if path not in photographs}
    owners = set(photographs.values())
    paired = [path for path, key in masks.items() if key in owners]
    if not paired or 2 * len(paired) < len(masks):
        return None
    note = (
        f"{len(masks)} members such as {paired[0]} are taken as masks of the photographs of their names; give "
        "--source.images . to take all pictures as photographs"
    )
    return MaskLayout(photographs=photographs, masks=masks, note=note)


def _locate(item: SourceItem, ranges: Mapping[str, tuple[str, Member]]) -> SourceItem:
    """Return an item with its byte ranges.

    Args:
        item: photograph and mask by their URIs.
        ranges: URI of the shard and member by URI.
    """
    shard, photograph = ranges[item.uri]
    item = replace(item, shard=shard, image_offset=photograph.offset, image_size=photograph.size)
    if item.mask_uri is None:
        return item
    other, mask = ranges[item.mask_uri]
    return replace(item, mask_shard=None if other == shard else other, mask_offset=mask.offset, mask_size=mask.size)
