"""The inputs of a three-stage self-training, opened once: pictures, labels, previous masks and validation data."""

from dataclasses import dataclass, replace
from typing import Self

from fss.collection import ClassIndex, Collection, MaskSet
from fss.collection.class_map import ClassTable
from fss.collection.class_names import check_same_names
from fss.evaluation.semantic import ConfusionMatrix
from fss.models.semantic.network import SemanticNetwork
from fss.training.semi_supervised.batch_cache import BatchCache
from fss.training.semi_supervised.batches import SemanticStream
from fss.training.semi_supervised.class_statistics import NO_STATISTICS, ClassStatistics, mask_shares, truth_shares
from fss.training.semi_supervised.config import LabelledConfig, Stage
from fss.training.semi_supervised.mask_writer import evaluate_network
from fss.training.semi_supervised.reader import SemanticReader
from fss.training.semi_supervised.rows import SemanticRows, scan_rows
from fss.training.workers import share_buffers
from pipelines.self_training.config import STABLE, STAGES, SelfTrainConfig

STAGE_FLAGS: dict[Stage, str] = {1: "first", 2: "second", 3: "third"}
STAGE_BEFORE: dict[Stage, Stage] = {2: 1, 3: 2}


@dataclass(frozen=True, kw_only=True)
class SelfTrainData:
    """The data of a training."""

    config: SelfTrainConfig
    """The resolved configuration."""
    collection: Collection
    """Collection of all pictures."""
    table: ClassTable
    """Indices of the classes."""
    truth: MaskSet
    """Mask set with the labels."""
    rows: SemanticRows
    """Labelled rows, and the pool of all usable rows."""
    val_truth: MaskSet | None
    """Mask set with the labels of the validation pictures. None: no validation."""
    statistics: ClassStatistics = NO_STATISTICS
    """Class shares that the losses of a stage use; :meth:`for_stage` reads them."""

    @classmethod
    def open(cls, config: SelfTrainConfig) -> Self:
        """Open the collections, and select the labelled pictures.

        Raises:
            ValueError: there is no such collection, mask set or list, no labelled picture, or the validation pictures
                have other classes.
        """
        collection = Collection.open(config.collection)
        truth, val_truth = collection.mask_set(config.mask_set), None
        if config.val_collection:
            val_truth = Collection.open(config.val_collection).mask_set(config.val_mask_set)
            _check_val_classes(collection, val_truth)
            scan_rows(val_truth, LabelledConfig())  # raises here and not in the workers
        return cls(
            config=config,
            collection=collection,
            table=ClassTable(collection.classes),
            truth=truth,
            rows=scan_rows(truth, config.labelled),
            val_truth=val_truth,
        )

    def for_stage(self, stage: Stage) -> Self:
        """Return the data with the rows and the class shares of a stage; picklable.

        The workers need not read the collection again for them.
        """
        rows = self.rows
        if stage == 2 and self.config.stable_share is not None:
            stable = self.collection.mask_set(self.config.stage_mask_set(1)).read_acceptance(STABLE)
            rows = scan_rows(self.truth, self.config.labelled, accepted=stable.accepted)
        return replace(self, rows=rows, statistics=self._statistics(stage))

    def _statistics(self, stage: Stage) -> ClassStatistics:
        training, before = self.config.training, STAGE_BEFORE.get(stage)
        by_class = training.confidence_by_class and before is not None
        if not training.class_balance and not by_class:
            return NO_STATISTICS
        reader = SemanticReader(self.collection, self.table, shrink=self.config.stream.shrink)
        truth, masks = truth_shares(reader, self.rows, self.truth), None
        if by_class:
            assert before is not None
            masks = mask_shares(self.collection.mask_set(self.config.stage_mask_set(before)), self.table, truth)
        return ClassStatistics(truth=truth, masks=masks)

    def stream(self, stage: Stage, *, rank: int, world: int, features: BatchCache | None = None) -> SemanticStream:
        """Open a worker's share of a stage's batches, of the data of :meth:`for_stage`; ``features`` may be shared."""
        config, batch = self.config, self.config.training.stage(stage)
        reader = SemanticReader(
            self.collection, self.table, shrink=config.stream.shrink, cache_gb=config.stream.cache_gb
        )
        before = STAGE_BEFORE.get(stage) if config.training.uses_masks(stage) else None
        return SemanticStream(
            reader,
            self.rows,
            config.stream,
            truth=self.truth,
            pseudo=self.collection.mask_set(config.stage_mask_set(before)) if before else None,
            labelled=batch.labelled,
            pool=batch.pool,
            rank=rank,
            world=world,
            features=features,
        )

    def validator(self) -> "SemanticValidator | None":
        """Open the validator of the checkpoints; None without validation pictures."""
        if self.val_truth is None:
            return None
        return SemanticValidator(self.val_truth, self.table, self.config)

    def hashes(self) -> dict[str, str]:
        """Return hashes of the pictures, the labels, the labelled selection, and the validation pictures."""
        hashes = {"collection": self.collection.fingerprint(), "truth": self.truth.config_hash}
        hashes["labelled"] = self.rows.hash
        if self.val_truth is not None:
            hashes |= {"val": self.val_truth.collection.fingerprint(), "val truth": self.val_truth.config_hash}
        return hashes

    def contents(self) -> dict[str, str]:
        """Return the hashes of the files of pictures and labels, which :meth:`hashes` does not cover."""
        contents = {"contents": self.truth.contents()}
        return contents if self.val_truth is None else contents | {"val_contents": self.val_truth.contents()}

    def counts(self) -> dict[str, int]:
        """Return the numbers of labelled and usable pictures and of classes.

        Raises:
            ValueError: there is one class only, or a step needs more pictures than there are, or has too few for the
                workers.
        """
        if len(self.table) < 2:
            raise ValueError(
                f"{self.collection.uri} has one class, {self.collection.classes}, and no background to tell it from; "
                "name a second class, or give the class another id than 0, which then means the background"
            )
        counts, share = self.rows.counts, self.config.stable_share
        for stage in STAGES:
            batch, available, note = self.config.training.stage(stage), dict(counts), ""
            if stage == 2 and share is not None:  # the stable pictures and the labelled ones, which may be the same
                available["pool"] = max(round(share * counts["pool"]), counts["labelled"])
                note = f" With stable_share {share:g} the pool may have so few."
            for kind, count in (("labelled", batch.labelled), ("pool", batch.pool)):
                if count > available[kind]:
                    raise ValueError(
                        f"a step of stage {stage} takes {count} {kind} pictures, but there are {available[kind]}; "
                        f"give --training.{STAGE_FLAGS[stage]}.{kind} {available[kind]}, or add pictures.{note}"
                    )
            self._check_workers(stage, batch.labelled + batch.pool)
        return counts | {"classes": len(self.table)}

    def _check_workers(self, stage: Stage, pictures: int) -> None:
        """Check that a step of ``pictures`` pictures, labelled ones and those of the pool, has some for every worker.

        A DeepLabV3 whose BatchNorm learns needs two, because it normalises one value per picture and channel.
        """
        network, workers = self.config.network, self.config.scale.workers
        least = 2 if network.network == "deeplabv3" and network.frozen_norm != "all" else 1
        name = {1: "first", 2: "second", 3: "third"}[stage]
        if pictures < least:
            raise ValueError(
                f"a step of stage {stage} has {pictures} picture, but the BatchNorm of DeepLabV3's new layers learns "
                f"from {least} or more; raise --training.{name}.labelled, or set --frozen-norm all"
            )
        if pictures // workers < least:
            raise ValueError(
                f"{workers} workers cannot share the {pictures} pictures in a step of stage {stage}, {least} or more "
                f"each; use at most {max(1, pictures // least)} --workers, or raise --training.{name}.labelled"
                f"{f' or --training.{name}.pool' if stage > 1 else ''}"
            )

    def finished_parts(self, stage: Stage) -> set[str]:
        """Return the names of the parts that a stage has finished."""
        name = self.config.stage_mask_set(stage)
        return self.collection.mask_set(name).finished_parts() if name in self.collection.mask_set_names() else set()


def _check_val_classes(collection: Collection, val_truth: MaskSet) -> None:
    """Check that the network has the classes of the validation pictures, under the same ids.

    Raises:
        ValueError: an id has another name, or a class has no picture to learn from.
    """
    val = val_truth.collection
    check_same_names(collection.classes, val.classes, where=collection.uri, elsewhere=val.uri)
    if unknown := sorted(set(ClassIndex.build(val_truth)) - set(collection.classes)):
        names = ", ".join(f"{c} ({val.classes.get(c, 'without a name')})" for c in unknown[:5])
        raise ValueError(
            f"the masks {val_truth.name!r} of {val.uri} have {len(unknown)} classes that {collection.uri} lacks: "
            f"{names}; ingest both with one table of classes (--source.classes FILE), or leave --val-collection out"
        )


class SemanticValidator:
    """Validates networks on labelled pictures."""

    def __init__(self, truth: MaskSet, table: ClassTable, config: SelfTrainConfig):
        """Scan the labelled pictures.

        Args:
            truth: labels of the validation pictures.
            table: indices of the classes.
            config: size and cache of the pictures, and precision of the networks.

        Raises:
            ValueError: none of the pictures has a mask.
        """
        stream = config.stream
        self._truth, self._precision = truth, config.precision
        self._rows = scan_rows(truth, LabelledConfig())
        self._reader = SemanticReader(truth.collection, table, shrink=stream.shrink, cache_gb=stream.cache_gb)

    def validate(self, network: SemanticNetwork) -> ConfusionMatrix:
        """Return the network's confusion matrix on all validation pictures, which the workers share."""
        share_buffers(network)
        return evaluate_network(network, self._reader, self._rows, self._truth, precision=self._precision)
