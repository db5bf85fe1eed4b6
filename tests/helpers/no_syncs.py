"""A mode that fails where the host would wait for a GPU."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "is_nonzero", "equal", "item"}
"""Operators whose result the host needs."""


class NoSyncs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails on operators whose result the host needs, and on copies that block it, for tensors of a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        inputs = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        assert not ("cuda" in inputs and name in WAITING), f"the host waits for {name}"
        result = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_"):
            outputs = {leaf.device.type for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
            blocking = not ((kwargs or {}).get("non_blocking") or (name == "copy_" and True in args[2:]))
            assert not (blocking and len(inputs | outputs) > 1), f"the host waits for a copy: {inputs} to {outputs}"
        return result
