"""Jobs on a cluster whose head runs no tasks and whose machines start with the first of them."""

import pytest
import ray

from pipelines.runtime import ray_session, ray_train
from pipelines.runtime.config import ScaleConfig

MEMORY = {"memory": 8e9, "node:10.20.0.10": 1.0}


def cluster(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    """Let Ray report these nodes, by their resources."""
    alive = [{"Alive": True, "Resources": MEMORY | node} for node in nodes]
    total = {name: sum(node.get(name, 0) for node in nodes) for name in {name for node in nodes for name in node}}
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
    asked = ScaleConfig(workers=2, gpu=True, cpus=3)
    cluster(monkeypatch, {})
    assert ray_train._resources(asked) == {"CPU": 3, "GPU": 1}
    assert ray_train._resources(ScaleConfig(workers=2)) == {"CPU": 1}, "without asking, what is there decides"
    cluster(monkeypatch, {"CPU": 4.0, "GPU": 1.0})
    with pytest.raises(ValueError, match="this machine has 1 GPUs"):
        ray_train._resources(asked)
