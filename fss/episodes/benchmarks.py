"""Episode plans of the public benchmarks: a collection, a fold, a protocol."""

from collections.abc import Mapping

from fss.collection.collection import Collection
from fss.collection.index import ClassIndex
from fss.collection.mask_set import MaskSet
from fss.collection.sources.coco import COCO_CLASSES
from fss.collection.sources.voc import VOC_CLASSES
from fss.episodes.config import Benchmark, Order, ProtocolName
from fss.episodes.episode_plan import Episode, EpisodePlan, make_plan
from fss.episodes.folds import BENCHMARKS, Fold, coco_fold, coco_to_pascal_fold, fss_fold, pascal_fold
from fss.episodes.protocols import MASKSPLIT_PIXELS, draw_listed, draw_masksplit
from fss.episodes.published_lists import EpisodeList, derive_list, image_name, read_fss_splits, read_list

PROTOCOLS: tuple[ProtocolName, ...] = ("ours", "hsnet", "ifsl", "masksplit")


def choose_fold(
    collection: Collection,
    benchmark: Benchmark,
    number: int | None = None,
    *,
    order: Order = "interleaved",
    split_folder: str | None = None,
) -> Fold:
    """Return a benchmark's fold for a collection of its test images.

    Args:
        collection: the images; FSS-1000's classes and splits come from it.
        benchmark: which benchmark.
        number: fold 0 to 3; FSS-1000 has none.
        order: of COCO-20i's classes.
        split_folder: HSNet's ``data/splits``: FSS-1000's published classes are read from it.

    Raises:
        ValueError: an unknown benchmark, no fold where one is needed, or a collection of other classes.
    """
    if benchmark not in BENCHMARKS:
        raise ValueError(f"the benchmarks are {', '.join(BENCHMARKS)}; got {benchmark!r}")
    if benchmark == "fss":
        splits = read_fss_splits(split_folder, collection.classes) if split_folder else collection.class_splits
        return fss_fold(collection.classes, splits)
    if number is None:
        raise ValueError(f"benchmark {benchmark} needs a fold, 0 to 3")
    if benchmark == "pascal":
        fold = pascal_fold(number)
    else:
        fold = coco_fold(number, order) if benchmark == "coco" else coco_to_pascal_fold(number, order)
    names = COCO_CLASSES if benchmark == "coco" else VOC_CLASSES
    other = [c for c in fold.test if collection.classes.get(c) != names[c - 1]]
    if other:
        raise ValueError(
            f"benchmark {benchmark} tests on {'COCO' if benchmark == 'coco' else 'VOC'}, but class {other[0]} of "
            f"{collection.uri} is {collection.classes.get(other[0], 'missing')!r} and not {names[other[0] - 1]!r}"
        )
    return fold


def benchmark_plan(
    collection: Collection,
    truth: MaskSet,
    fold: Fold,
    *,
    protocol: ProtocolName,
    shots: int,
    episodes: int | None = None,
    seed: int = 0,
    split_folder: str | None = None,
) -> EpisodePlan:
    """Draw the episodes of a benchmark's fold by a protocol.

    Args:
        collection: the test images (VOC's or COCO's validation images, or FSS-1000).
        truth: their masks.
        fold: whose test classes are drawn.
        protocol: how.
        shots: supports per episode.
        episodes: how many; None takes the protocol's number (1,000; every image once for FSS-1000; 2,500 for
            masksplit).
        seed: 0 gives the published episodes of hsnet and ifsl.
        split_folder: HSNet's ``data/splits``, for hsnet and ifsl; None derives the lists from the masks, which the
            plan's protocol tells (``hsnet-derived``).

    Raises:
        ValueError: an unknown protocol, classes with too few images, or images that the collection lacks.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"the protocols are {', '.join(PROTOCOLS)}; got {protocol!r}")
    if shots < 1 or (episodes is not None and episodes < 1):
        raise ValueError(f"a plan has at least 1 episode and 1 shot, got {episodes} and {shots}")
    fingerprint = collection.fingerprint()
    if protocol == "ours":
        index = ClassIndex.build(truth)
        count = episodes or 1000
        return make_plan(index, classes=fold.test, episodes=count, shots=shots, seed=seed, fingerprint=fingerprint)
    if protocol == "masksplit":
        index = ClassIndex.build(truth, min_pixels=MASKSPLIT_PIXELS)
        pools = {class_id: [entry.image_id for entry in index.get(class_id, ())] for class_id in fold.test}
        drawn, name = draw_masksplit(pools, shots=shots, episodes=episodes or 2500, seed=seed), "masksplit"
    else:
        ids = ids_by_name(collection, fold.benchmark)
        listed = _episode_list(collection, truth, fold, ids, split_folder)
        named = draw_listed(listed, protocol=protocol, shots=shots, episodes=episodes, seed=seed)
        drawn = [(c, ids[query], tuple(ids[support] for support in supports)) for c, query, supports in named]
        name = protocol if listed.origin == "published" else f"{protocol}-{listed.origin}"
    rows = tuple(Episode(number, *row) for number, row in enumerate(drawn))
    return EpisodePlan(episodes=rows, protocol=name, seed=seed, shots=shots, fingerprint=fingerprint)


def ids_by_name(collection: Collection, benchmark: str) -> dict[str, str]:
    """Return image ids by the names that lists use, without quarantined images.

    Raises:
        ValueError: two images have one name.
    """
    ids: dict[str, str] = {}
    for part in collection.part_names():
        for row in collection.read_part(part, ["image_id", "uri", "error"]).to_pylist():
            name = image_name(row["uri"], benchmark)
            if row["error"]:
                continue
            if name in ids:
                raise ValueError(f"the collection has two images called {name}; ingest one subset alone")
            ids[name] = row["image_id"]
    return ids


def _episode_list(
    collection: Collection, truth: MaskSet, fold: Fold, ids: Mapping[str, str], split_folder: str | None
) -> EpisodeList:
    if split_folder is None:
        names = {image_id: name for name, image_id in ids.items()}
        index = ClassIndex.build(truth)
        shown = {class_id: [names[entry.image_id] for entry in index[class_id]] for class_id in index}
        return derive_list(fold, shown)
    listed = read_list(split_folder, fold, collection.classes, ids)
    missing = sorted({entry.name for entry in listed.entries} - ids.keys())
    if missing:
        raise ValueError(
            f"the lists name {len(missing)} images that the collection lacks, such as {', '.join(missing[:3])}; "
            "ingest the complete data set"
        )
    return listed
