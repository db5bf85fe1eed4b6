"""The episode plans of an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fss.collection import ClassIndex, Collection, MaskSet
from fss.episodes.benchmarks import benchmark_plan, choose_fold
from fss.episodes.episode_plan import EpisodePlan, make_plan, split_small_classes
from fss.episodes.folds import Fold
from fss.episodes.protocols import MASKSPLIT_PIXELS
from fss.evaluation.calibration import absent_plan
from pipelines.evaluation.config import EPISODES, EvaluateJobConfig


@dataclass(frozen=True, kw_only=True)
class Plans:
    """The episode plans of an evaluation."""

    plans: tuple[EpisodePlan, ...]
    """One plan for each number of shots."""
    absent: tuple[EpisodePlan, ...]
    """For each plan its first episodes with queries that do not show the class; no episodes if they are not wanted."""
    left_out: dict[str, int]
    """Number of pictures of each class that was left out because it has too few, by the name of the class."""


def make_plans(config: EvaluateJobConfig, truth: MaskSet) -> Plans:
    """Draw the plans of an evaluation, which do not depend on the model.

    All plans have the same classes: those with enough pictures for the largest number of shots.

    Args:
        config: the settings.
        truth: the mask set to evaluate on.

    Raises:
        ValueError: there is no such class split or fold, or a class has too few pictures.
    """
    collection = truth.collection
    small: dict[int, int] = {}
    if config.benchmark is not None:
        fold = choose_fold(
            collection, config.benchmark, config.fold, order=config.order, split_folder=config.split_folder
        )
        if config.skip_small_classes:
            index = ClassIndex.build(truth, min_pixels=MASKSPLIT_PIXELS if config.protocol == "masksplit" else 1)
            test, small = split_small_classes(index, fold.test, max(config.shots))
            fold = replace(fold, test=tuple(test))
        plans = [_benchmark_plan(config, truth, fold, shots) for shots in config.shots]
    else:
        index = ClassIndex.build(truth, min_pixels=config.min_pixels)
        classes = _classes(config, collection)
        if config.skip_small_classes:
            classes, small = split_small_classes(index, index if classes is None else classes, max(config.shots))
        fingerprint = collection.fingerprint()
        episodes = config.episodes or EPISODES
        plans = [
            make_plan(index, classes=classes, episodes=episodes, shots=shots, seed=config.seed, fingerprint=fingerprint)
            for shots in config.shots
        ]
    left_out = {collection.classes.get(c, str(c)): count for c, count in small.items()}
    return Plans(plans=tuple(plans), absent=_absent_plans(config, truth, plans), left_out=left_out)


def _absent_plans(config: EvaluateJobConfig, truth: MaskSet, plans: Sequence[EpisodePlan]) -> tuple[EpisodePlan, ...]:
    if config.presence_episodes == 0:
        return tuple(replace(plan, episodes=()) for plan in plans)
    index = ClassIndex.build(truth, min_pixels=1)
    images_of = {c: {entry.image_id for entry in index[c]} for plan in plans for c in plan.classes}
    return tuple(absent_plan(plan, images_of, limit=config.presence_episodes) for plan in plans)


def _classes(config: EvaluateJobConfig, collection: Collection) -> Sequence[int] | None:
    if config.classes is None:
        return None
    splits = collection.class_splits
    if config.classes not in splits:
        names = ", ".join(splits) or "none"
        raise ValueError(
            f"the collection {collection.uri} has no class split {config.classes!r}; its splits are {names}. Without "
            "--classes, all classes are evaluated"
        )
    return splits[config.classes]


def _benchmark_plan(config: EvaluateJobConfig, truth: MaskSet, fold: Fold, shots: int) -> EpisodePlan:
    return benchmark_plan(
        truth.collection,
        truth,
        fold,
        protocol=config.protocol,
        shots=shots,
        episodes=config.episodes,
        seed=config.seed,
        split_folder=config.split_folder,
    )
