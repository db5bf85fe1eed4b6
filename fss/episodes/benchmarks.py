"""Episode plans of the public benchmarks, each defined by a collection, a fold and a protocol."""

from collections.abc import Mapping

from fss.collection.class_index import ClassIndex
from fss.collection.collection import Collection
from fss.collection.mask_set import MaskSet
from fss.collection.sources.coco import COCO_CLASSES
from fss.collection.sources.voc import VOC_CLASSES
from fss.episodes.config import Benchmark, Order, ProtocolName
from fss.episodes.episode_plan import Episode, EpisodePlan, check_plan_size, make_plan
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
    """Return a fold of a benchmark and check that the collection has its test classes.

    Args:
        collection: test images; for FSS-1000 it also gives the classes and splits.
        benchmark: name of the benchmark.
        number: fold 0 to 3; ignored for FSS-1000.
        order: class order of COCO-20i.
        split_folder: ``data/splits`` of HSNet, to read the published classes of FSS-1000 from.

    Raises:
        ValueError: the benchmark is unknown, the fold is missing, or the collection has other classes.
    """
    if benchmark not in BENCHMARKS:
        raise ValueError(f"unknown benchmark {benchmark!r}; choose from {', '.join(BENCHMARKS)}")
    if benchmark == "fss":
        splits = read_fss_splits(split_folder, collection.classes) if split_folder else collection.class_splits
        return fss_fold(collection.classes, splits)
    if number is None:
        raise ValueError(f"benchmark {benchmark} needs a fold; choose 0 to 3")
    if benchmark == "pascal":
        fold = pascal_fold(number)
    else:
        fold = coco_fold(number, order) if benchmark == "coco" else coco_to_pascal_fold(number, order)
    names = COCO_CLASSES if benchmark == "coco" else VOC_CLASSES
    mismatched = [c for c in fold.test if collection.classes.get(c) != names[c - 1]]
    if mismatched:
        raise ValueError(
            f"benchmark {benchmark} tests on {'COCO' if benchmark == 'coco' else 'VOC'}, but class {mismatched[0]} of "
            f"{collection.uri} is {collection.classes.get(mismatched[0], 'missing')!r} and not "
            f"{names[mismatched[0] - 1]!r}; use a collection of its test images"
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
    """Sample the episodes of a fold according to a protocol.

    Args:
        collection: test images: the validation images of VOC or COCO, or FSS-1000.
        truth: ground truth masks of the test images.
        fold: fold whose test classes are sampled.
        protocol: name of the protocol.
        shots: supports per episode.
        episodes: number of episodes; None takes that of the protocol (1,000; 2,500 for masksplit; every image once for
            FSS-1000).
        seed: seed of the sampling; 0 gives the published episodes of hsnet and ifsl.
        split_folder: ``data/splits`` of HSNet, for hsnet and ifsl; None derives the lists from the masks, and the
            protocol of the plan is then called ``hsnet-derived`` or ``ifsl-derived``.

    Raises:
        ValueError: the protocol is unknown, a class has too few images, or the collection lacks listed images.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; choose from {', '.join(PROTOCOLS)}")
    check_plan_size(1 if episodes is None else episodes, shots)
    fingerprint = collection.fingerprint()
    if protocol == "ours":
        index = ClassIndex.build(truth)
        count = episodes or 1000
        return make_plan(index, classes=fold.test, episodes=count, shots=shots, seed=seed, fingerprint=fingerprint)
    if protocol == "masksplit":
        index = ClassIndex.build(truth, min_pixels=MASKSPLIT_PIXELS)
        pools = {class_id: [entry.image_id for entry in index.get(class_id, ())] for class_id in fold.test}
        tuples, name = draw_masksplit(pools, shots=shots, episodes=episodes or 2500, seed=seed), "masksplit"
    else:
        ids = ids_by_name(collection, fold.benchmark)
        listed = _episode_list(collection, truth, fold, ids, split_folder)
        named = draw_listed(listed, protocol=protocol, shots=shots, episodes=episodes, seed=seed)
        tuples = [(c, ids[query], tuple(ids[support] for support in supports)) for c, query, supports in named]
        name = protocol if listed.origin == "published" else f"{protocol}-{listed.origin}"
    rows = tuple(Episode(number, *row) for number, row in enumerate(tuples))
    return EpisodePlan(episodes=rows, protocol=name, seed=seed, shots=shots, fingerprint=fingerprint)


def ids_by_name(collection: Collection, benchmark: str) -> dict[str, str]:
    """Return the image ids of usable images by their names in published lists.

    Raises:
        ValueError: two images have the same name.
    """
    ids: dict[str, str] = {}
    for _, table in collection.parts.tables(collection.part_names(), ["image_id", "uri", "error"]):
        for row in table.to_pylist():
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
        names_by_class = {class_id: [names[entry.image_id] for entry in index[class_id]] for class_id in index}
        return derive_list(fold, names_by_class)
    listed = read_list(split_folder, fold, collection.classes, ids)
    missing = sorted({entry.name for entry in listed.entries} - ids.keys())
    if missing:
        raise ValueError(
            f"the lists name {len(missing)} images that the collection lacks, such as {', '.join(missing[:3])}; "
            "ingest the complete data set"
        )
    return listed
