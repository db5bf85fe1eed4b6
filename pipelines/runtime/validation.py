"""Checks that take seconds and run before any stage: networks can be built, weights load, and collections exist."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fss.core import storage
from fss.models.config import SegmenterConfig
from fss.models.saliency.config import StudentConfig
from fss.models.semantic.config import SemanticConfig
from fss.saliency.config import ViTSettings

if TYPE_CHECKING:
    from fss.models import FewShotSegmenter
    from fss.models.saliency.network import SaliencyStudent
    from fss.saliency.estimators import EstimatorSettings

Weights = str | Path | None


def check_segmenter(
    config: SegmenterConfig, prior: "SaliencyStudent | None" = None, *, sizes: Mapping[str, int] | None = None
) -> None:
    """Build the network once, so that a wrong backbone, weights file or combination fails before any work.

    Args:
        config: the network.
        prior: represents a saliency prior that does not exist yet.
        sizes: sides of pictures that it will see besides its image size, in pixels, by their flags without dashes.

    Raises:
        ValueError: the backbone is unknown, weights are missing or do not fit, images are too small, or settings
            contradict each other.
    """
    from fss.models import FewShotSegmenter
    from fss.models.weights.state_dict import log_once

    with loading_weights(config.backbone, config.backbone_weights):
        segmenter = FewShotSegmenter.from_config(config, prior=prior)
    for flag, size in {"image-size": config.image_size, **(sizes or {})}.items():
        check_image_size(segmenter, size, flag=flag)
    if (side := (sizes or {}).get("training-size", config.image_size)) != config.image_size:
        log_once(
            f"training on pictures of {side} px (--training-size), answers on {config.image_size} px (--image-size)"
        )


def check_image_size(segmenter: "FewShotSegmenter", image_size: int, *, flag: str = "image-size") -> None:
    """Refuse images that are too small for a network, and say once if a network pads them.

    Raises:
        ValueError: the side is below the learner's least.
    """
    from fss.models.weights.state_dict import log_once

    if image_size < (side := segmenter.learner.min_side):
        network = f"{segmenter.config.learner} on {segmenter.config.backbone}"
        raise ValueError(f"{flag} is {image_size}, but {network} needs at least {side} pixels; give a larger --{flag}")
    if note := segmenter.backbone.padding_note(image_size, image_size):
        log_once(note)


def check_folder(uri: str) -> None:
    """Refuse a local path that does not exist; object stores are asked when they are listed.

    Raises:
        ValueError: there is nothing at this path.
    """
    if not storage.is_remote(uri) and not Path(storage.absolute_uri(uri)).exists():
        raise ValueError(f"there is nothing at {uri}; give an existing folder, a collection or an s3:// URI")


def check_semantic(config: SemanticConfig, *, classes: int) -> None:
    """Build a semantic network once, so that a wrong backbone, weights file or combination fails before any work.

    Raises:
        ValueError: the backbone does not suit the network, or weights are missing or do not fit.
    """
    from fss.models.semantic.network import build_semantic

    with loading_weights(config.backbone, config.backbone_weights):
        build_semantic(config, classes=classes)


def build_student(config: StudentConfig, *, flag: str = "backbone-weights") -> "SaliencyStudent":
    """Build a saliency student, so that wrong settings fail before any work; ``flag`` is that of its weights.

    Raises:
        ValueError: the backbone is unknown, weights are missing or do not fit, or the size or width is wrong.
    """
    from fss.models.saliency.network import SaliencyStudent

    with loading_weights(config.backbone, config.backbone_weights, flag=flag):
        return SaliencyStudent(config)


def check_estimator(settings: "EstimatorSettings") -> None:
    """Build a saliency estimator once on the CPU, so that a wrong file fails before any work.

    Raises:
        ValueError: there is no such student, transformer or weights file, or the weights do not fit.
    """
    from fss.saliency.estimators import create_estimator

    if isinstance(settings, ViTSettings):
        with loading_weights(settings.model, settings.weights, flag="vit.weights"):
            create_estimator(settings)
    else:
        create_estimator(settings)


def check_weights(weights: Weights, *, flag: str = "backbone-weights") -> None:
    """Check that a file holds weights, without reading them; building the network reads them.

    Raises:
        ValueError: there is no such file, or it is something else.
    """
    from fss.models.weights.reading import check_weights_file

    if weights is None or weights == "pretrained":
        return
    try:
        check_weights_file(weights)
    except ValueError as error:
        advice = f"--{flag} also takes pretrained (the library's weights) and None (random weights)"
        raise ValueError(f"--{flag}: {error}. {advice}") from error


def check_collection(uri: str) -> None:
    """Check that there is a collection at a URI, with the files of all its parts.

    Raises:
        ValueError: there is none, and the message has the command that makes one; or files of parts are gone.
    """
    from fss.collection.collection import Collection
    from fss.collection.collection_file import collection_exists

    if not collection_exists(storage.absolute_uri(uri)):
        raise ValueError(
            f"there is no collection at {uri}; make one with: python -m pipelines.ingest --collection {uri} "
            "--source.path FOLDER"
        )
    Collection.open(uri).parts.check_complete()


@contextmanager
def loading_weights(network: str, weights: Weights, *, flag: str = "backbone-weights") -> Iterator[None]:
    """Run a block that loads weights; the errors about the file name the flag.

    Raises:
        ValueError: the file holds no weights, or pretrained weights cannot be downloaded.
    """
    check_weights(weights, flag=flag)
    try:
        yield
    except OSError as error:
        if weights != "pretrained":
            raise
        raise ValueError(
            f"the pretrained weights of {network} are not in the cache and cannot be downloaded ({error}). Give "
            f"--{flag} FILE, or --{flag} None to start from random weights, which is much worse"
        ) from error
