"""Load weights into a network: all of its tensors, of equal shapes and finite values."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from fss.models.weights.reading import open_weights
from fss.models.weights.state_dict import StateDict, Tensors, abbreviate, find_state_dict, log_once

Module = TypeVar("Module", bound=nn.Module)


def build_and_load(build: Callable[[], Module], tensors: Mapping[str, Tensor], *, what: str) -> Module:
    """Build a network, and load tensors whose names and shapes must match its own (see :func:`load_strictly`).

    The shapes are compared with a network without memory first. A description that asks for a larger network than its
    file has weights for is refused before the memory is taken.

    Args:
        build: returns a new network.
        tensors: tensors by the network's own names.
        what: the name of the network in the error message.

    Raises:
        ValueError: the weights do not fit, or are not finite.
    """
    with torch.device("meta"):
        outline = build()
    check_fit(outline, tensors, what=what)
    module = build()
    module.load_state_dict(tensors, strict=False)
    return module


def load_weights(
    module: nn.Module,
    uri: str | Path,
    *,
    what: str,
    translate: Callable[[Tensors], Tensors] = dict,
    known: Collection[str] = (),
) -> StateDict:
    """Load the weights of a network from a file of any author, and return what the file holds for it.

    Modules of the file that the network lacks, such as a classifier or a decoder, are left out with a warning.

    Args:
        module: the network to load into.
        uri: local path or s3:// URI of a weights file.
        what: the name of the network in the error message.
        translate: returns tensors by the network's own names, given tensors by the names in the file.
        known: other modules of the file that the caller takes itself.

    Raises:
        ValueError: the file cannot be opened, or its weights do not fit or are not finite.
    """
    state = find_state_dict(open_weights(uri), module.state_dict(), translate)
    load_own_modules(module, translate(state.tensors), what=what, state=state, known=known)
    return state


def load_own_modules(
    module: nn.Module, tensors: Tensors, *, what: str, state: StateDict, known: Collection[str] = ()
) -> None:
    """Load the tensors of the modules that a network has, and log the modules that it lacks.

    A module is the first word of a name. Unknown names inside a module that the network has are errors: they mean
    another architecture.

    Args:
        module: the network to load into.
        tensors: tensors by the network's own names.
        what: the name of the network in the error message.
        state: where the tensors come from.
        known: modules that the caller takes itself.

    Raises:
        ValueError: the weights of these modules do not fit or are not finite.
    """
    own = {name.partition(".")[0] for name in module.state_dict()}
    fitting = {name: value for name, value in tensors.items() if name.partition(".")[0] in own}
    load_strictly(module, fitting, what=what, state=state)
    others = {name.partition(".")[0] for name in tensors} - own - set(known)
    if others:
        log_once(f"{state.origin}: left out {abbreviate(sorted(others))}, which {what} lacks")


def load_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], *, what: str, state: StateDict | None = None
) -> None:
    """Load tensors that pass :func:`check_fit`; arguments and errors as there."""
    check_fit(module, tensors, what=what, state=state)
    module.load_state_dict(tensors, strict=False)


def check_fit(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str, state: StateDict | None = None) -> None:
    """Refuse tensors whose names, shapes or kinds of numbers are not those of ``module``, or that are not finite.

    BatchNorm's ``num_batches_tracked`` counters may be missing, because evaluation does not use them.

    Args:
        module: the network to load into.
        tensors: tensors by the network's own names.
        what: the name of the network in the error message.
        state: where the tensors come from, for the error message.

    Raises:
        ValueError: names are missing, unexpected or of another shape, whole numbers stand for fractions or fractions
            for whole numbers, or a value is not finite.
    """
    own = module.state_dict()
    missing = sorted(key for key in own if key not in tensors and not key.endswith("num_batches_tracked"))
    unexpected = sorted(key for key in tensors if key not in own)
    misshapen = [
        f"{key}: got {list(tensors[key].shape)}, expected {list(own[key].shape)}"
        for key in sorted(own)
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    mistyped = [
        f"{key}: got {tensors[key].dtype}, expected {own[key].dtype}"
        for key in sorted(own)
        if key in tensors and tensors[key].is_floating_point() != own[key].is_floating_point()
    ]
    if missing or unexpected or misshapen or mistyped:
        groups = [
            *(("missing", missing), ("unexpected", unexpected)),
            *(("of another shape", misshapen), ("of another type", mistyped)),
        ]
        problems = "; ".join(f"{len(keys)} {name}: {abbreviate(keys)}" for name, keys in groups if keys)
        matching = sum(key in tensors and tensors[key].shape == value.shape for key, value in own.items())
        raise ValueError(
            f"the weights{_of(state)} do not fit {what}: {matching} of {len(own)} tensors match; {problems}."
            f"{_content(state)} Check the learner, backbone and benchmark names."
        )
    for key, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            bad = int((~value.isfinite()).sum())
            raise ValueError(
                f"the weights{_of(state)} for {what} are not finite: {key} is NaN or infinite in {bad} of "
                f"{value.numel()} values. Its training diverged, or the file is damaged; give another file."
            )


def _of(state: StateDict | None) -> str:
    return f" {state.origin}" if state else ""


def _content(state: StateDict | None) -> str:
    """Describe the file, as far as its names say what it is."""
    if state is None:
        return ""
    keys = [key for key in state.file.keys if key not in state.tensors]
    top = f" Top-level keys of the file: {abbreviate(keys)}." if keys and state.head else ""
    return f"{top} Tensors of the file: {abbreviate(sorted(state.tensors))}."
