"""Jobs on a cluster whose head runs no tasks and whose machines start with the first of them."""

import pytest
import ray

from pipelines.runtime import ray_session, ray_train
from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.device import resolve_device

MEMORY = {"memory": 8e9, "node:10.20.0.10": 1.0}


def cluster(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    """Let Ray report these nodes, by their resources."""
    alive = [{"Alive": True, "Resources": MEMORY | node} for node in nodes]
    total = {name: sum(node.get(name, 0) for node in nodes) for name in {name for node in nodes for name in node}}
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"CPU": 8.0}}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: MEMORY | total)


def test_a_head_that_runs_no_tasks_is_not_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, {})
    assert not ray_session.is_local(), "the part driver would limit itself to the head's cores"
    assert ray_session.count_cpus() == 1, "an evaluation would have no share to give out"
    cluster(monkeypatch, {"CPU": 4.0})
    assert ray_session.is_local()
    cluster(monkeypatch, {}, {"CPU": 8.0})
    assert not ray_session.is_local()
    assert ray_session.count_cpus() == 8


def test_gpus_may_be_asked_for_before_a_machine_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = ScaleConfig(workers=2, device="cuda", cpus_per_worker=3)
    assert ray_train._resources(scale) == {"CPU": 3, "GPU": 1}
    assert ray_train._resources(ScaleConfig(workers=2, device="cpu")) == {"CPU": 1}
    cluster(monkeypatch, {})
    assert resolve_device("cuda", workers=2) == "cuda"
    assert resolve_device("auto", workers=2) == "cpu"
    cluster(monkeypatch, {"CPU": 4.0, "GPU": 1.0})
    for device in ("auto", "cuda"):
        with pytest.raises(ValueError, match="there are 1 GPUs; give --workers 1, or --device cpu"):
            resolve_device(device, workers=2)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert resolve_device("cpu", workers=2) == "cpu"
