"""Find a network's tensors in a weights file, whatever containers and prefixes its author used.

All nested mappings of a file become one list of tensors with dotted names: ``{"model": {"module.conv1.weight": ...}}``
becomes ``model.module.conv1.weight``. A file holds a network under a head (here ``model.module.``) if every name of the
network follows it. So containers and prefixes need no list of their names. If several heads hold the whole network, the
one with the word ``ema`` or ``teacher`` is taken, because the moving average is what authors evaluate.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from fss.models.weights.reading import HARMLESS, WeightsFile

Tensors = Mapping[str, Tensor]
_DEPTH = 6  # nested mappings, and dots in a head
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # of torch, anywhere in a name
_AVERAGES = {"ema", "teacher"}


@dataclass(frozen=True, kw_only=True)
class StateDict:
    """The tensors of a network in a weights file."""

    tensors: dict[str, Tensor]
    """Tensors by name, without the head."""
    head: str
    """Containers and prefixes in front of the names, such as ``model.module.``; empty: none."""
    file: WeightsFile
    """The file."""

    @property
    def origin(self) -> str:
        """The file and the head, for messages."""
        return f"{self.file.name} (under {self.head.rstrip('.')!r})" if self.head else self.file.name


def find_state_dict(
    file: WeightsFile, names: Collection[str], translate: Callable[[Tensors], Tensors] = dict
) -> StateDict:
    """Return the tensors of a network in a file, and log which were taken if there is a choice.

    Args:
        file: the open file.
        names: the names of the network's own state dict; counters of BatchNorm may be absent from the file.
        translate: returns tensors by the network's own names, given tensors by the names in the file without a head.

    Returns:
        The tensors that hold the whole network; else those that hold most of it, which loading then refuses.

    Raises:
        ValueError: the file holds no tensors, or several whole networks that differ.
    """
    tensors = dict(_flatten(file.content))
    if not tensors:
        raise ValueError(_without_tensors(file))
    needed = {name for name in names if not name.endswith("num_batches_tracked")}
    groups = {head: group for head, group in _by_head(tensors).items() if 2 * len(group) >= len(needed)}
    matches = {head: len(needed & translate(group).keys()) for head, group in groups.items()}
    whole = [head for head, count in matches.items() if count == len(needed)]
    if whole:
        head = _preferred(whole, groups, file)
    else:
        most = max(matches.values(), default=0)
        head = min((head for head, count in matches.items() if count == most), default="", key=len)
        if 2 * most < len(needed):  # a chance match of a few names says nothing
            head = _largest_container(file.content)
    return StateDict(tensors=_by_head(tensors).get(head, tensors), head=head, file=file)


def _flatten(value: object, head: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    for wrapper in _WRAPPERS:
        head = head.replace(wrapper, "")
    if isinstance(value, Tensor):
        if not value.is_meta:  # those have shapes and no values
            yield head.removesuffix("."), value if value.layout == torch.strided else value.to_dense()
    elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        yield head.removesuffix("."), torch.from_numpy(value)
    elif isinstance(value, Mapping) and depth < _DEPTH:
        for key, each in value.items():
            yield from _flatten(each, f"{head}{key}.", depth + 1)


def _by_head(tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """Group tensors by every head of their names; each group's names lack the head."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        head, rest = "", name
        for _ in range(_DEPTH + 1):
            groups.setdefault(head, {})[rest] = tensor
            word, dot, rest = rest.partition(".")
            if not dot:
                break
            head += word + dot
    return groups


def _preferred(heads: list[str], groups: Mapping[str, Tensors], file: WeightsFile) -> str:
    """Return the head to take of several that hold the whole network: the moving average, else the only one.

    Raises:
        ValueError: there are several different ones, and none or several of them are averages.
    """
    averages = [head for head in heads if _is_average(head)]
    choices = _different(averages or heads, groups)
    if len(choices) > 1:
        listing = " and ".join(repr(head.rstrip(".")) for head in choices)
        raise ValueError(
            f"the weights file {file.name} holds {len(choices)} networks that fit, under {listing}; save the one to "
            "use alone, with torch.save(state_dict, FILE)"
        )
    if len(_different(heads, groups)) > 1:
        others = ", ".join(repr(head.rstrip(".")) for head in heads if head != choices[0])
        log_once(f"{file.name}: took the moving average under {choices[0].rstrip('.')!r}, not {others}")
    return choices[0]


def _is_average(head: str) -> bool:
    return bool(_AVERAGES & set(head.lower().replace("_", ".").split(".")))


def _different(heads: list[str], groups: Mapping[str, Tensors]) -> list[str]:
    """Return the heads whose tensors differ from those of every head before them."""
    kept: list[str] = []
    for head in sorted(heads, key=len):
        if not any(_equal(groups[head], groups[other]) for other in kept):
            kept.append(head)
    return kept


def _equal(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def _largest_container(content: object, head: str = "", depth: int = 0) -> str:
    """Return the head of the mapping that holds the most tensors itself."""
    best, most = head, -1
    queue = [(head, content, depth)]
    while queue:
        head, value, depth = queue.pop(0)
        if isinstance(value, Mapping):
            if (count := sum(isinstance(each, Tensor) for each in value.values())) > most:
                best, most = head, count
            if depth < _DEPTH:
                queue += [(f"{head}{key}.", each, depth + 1) for key, each in value.items()]
    return best


def _without_tensors(file: WeightsFile) -> str:
    others = [each for each in file.foreign if not each.startswith(HARMLESS)]
    others = others or [each for each in file.foreign if each.startswith("torch.nn.")]
    parts = [f"the top-level keys {abbreviate(file.keys, 10)}"] if file.keys else []
    parts += [f"pickled objects of {abbreviate(others)}, which are not opened"] if others else []
    content = " and ".join(parts) or f"a value of type {type(file.content).__name__}"
    return (
        f"the weights file {file.name} holds no state dict but {content}; save the weights alone with "
        "torch.save(model.state_dict(), FILE)"
    )


def abbreviate(names: Sequence[str], limit: int = 5) -> str:
    """Join the first names, and say how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


@lru_cache(maxsize=256)
def log_once(message: str) -> None:
    """Log a warning, the first time that it comes."""
    logging.getLogger(__name__).warning(message)
