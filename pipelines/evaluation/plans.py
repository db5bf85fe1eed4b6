"""The episode plans of an evaluation."""

from fss.collection import ClassIndex, MaskSet
from fss.episodes.benchmarks import benchmark_plan, choose_fold
from fss.episodes.episode_plan import EpisodePlan, make_plan
from pipelines.evaluation.config import EPISODES, EvaluateJobConfig


def make_plans(config: EvaluateJobConfig, truth: MaskSet) -> list[EpisodePlan]:
    """Draw the plans of an evaluation, which do not depend on the model.

    Args:
        config: the settings.
        truth: the mask set to evaluate on.

    Raises:
        ValueError: there is no such class split or fold, or a class has too few pictures.
    """
    if config.benchmark is not None:
        return _benchmark_plans(config, truth)
    collection = truth.collection
    splits = collection.class_splits
    if config.classes is not None and config.classes not in splits:
        names = ", ".join(splits) or "none"
        raise ValueError(f"the collection {collection.uri} has no class split {config.classes!r}; it has {names}")
    index = ClassIndex.build(truth, min_pixels=config.min_pixels)
    fingerprint = collection.fingerprint()
    return [
        make_plan(
            index,
            classes=None if config.classes is None else splits[config.classes],
            episodes=config.episodes or EPISODES,
            shots=shots,
            seed=config.seed,
            fingerprint=fingerprint,
        )
        for shots in config.shots
    ]


def _benchmark_plans(config: EvaluateJobConfig, truth: MaskSet) -> list[EpisodePlan]:
    assert config.benchmark is not None
    collection, folder = truth.collection, config.split_folder
    fold = choose_fold(collection, config.benchmark, config.fold, order=config.order, split_folder=folder)
    return [
        benchmark_plan(
            collection,
            truth,
            fold,
            protocol=config.protocol,
            shots=shots,
            episodes=config.episodes,
            seed=config.seed,
            split_folder=folder,
        )
        for shots in config.shots
    ]
