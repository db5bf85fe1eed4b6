"""Which workers watch their machine; Ray Train is stood in for."""

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train

from pipelines.training import monitored_worker as module


@pytest.mark.parametrize(
    ("local_rank", "node", "watched"), [(0, "other", ["node-1"]), (1, "other", []), (0, "driver", [])]
)
def test_the_first_worker_of_every_other_machine_watches_it(
    local_rank: int, node: str, watched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    trained: list[dict[str, Any]] = []

    @contextmanager
    def monitor_system(run: Any, *, node: str) -> Any:
        seen.append(node)
        yield

    context = SimpleNamespace(get_local_rank=lambda: local_rank, get_node_rank=lambda: 1)
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: node))
    monkeypatch.setattr(module, "monitor_system", monitor_system)
    monkeypatch.setattr(module, "train_worker", trained.append)
    settings = {"driver_node": "driver", "run": {"uri": "sqlite://", "experiment_id": "0", "run_id": "r"}}
    module.monitored_worker(settings)
    assert seen == watched
    assert trained == [settings]
