"""Jobs on a cluster whose head runs no tasks and whose machines start with the first of them."""

from types import SimpleNamespace

import pytest
import ray

from pipelines.runtime import device as device_module
from pipelines.runtime import ray_session, ray_train
from pipelines.runtime.config import ScaleConfig
from pipelines.runtime.device import resolve_device

MEMORY = {"memory": 8e9, "node:10.20.0.10": 1.0}


def cluster(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float], local: bool = False) -> None:
    """Let Ray report these nodes, by their resources."""
    context = SimpleNamespace(runtime_env={"env_vars": {ray_session.LOCAL: "1"}} if local else {})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    alive = [{"Alive": True, "Resources": MEMORY | node} for node in nodes]
    total = {name: sum(node.get(name, 0) for node in nodes) for name in {name for node in nodes for name in node}}
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"CPU": 8.0}}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: MEMORY | total)


def test_only_a_ray_that_the_job_has_started_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(monkeypatch, {"CPU": 4.0})
    assert not ray_session.is_local(), "machines may join a cluster of one"
    assert ray_session.count_cpus() == 4
    cluster(monkeypatch, {})
    assert ray_session.count_cpus() == 1, "a head without CPUs"
    cluster(monkeypatch, {"CPU": 4.0}, local=True)
    assert ray_session.is_local()


@pytest.mark.usefixtures("ray_local")
def test_workers_know_that_their_ray_is_local() -> None:
    assert ray_session.is_local()
    assert ray.get(ray.remote(ray_session.is_local).remote())


def test_gpus_may_be_asked_for_before_a_machine_has_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scale = ScaleConfig(workers=2, device="cuda", cpus_per_worker=3)
    assert ray_train._resources(scale) == {"CPU": 3, "GPU": 1}
    assert ray_train._resources(ScaleConfig(workers=2, device="cpu")) == {"CPU": 1}
    cluster(monkeypatch, {})
    assert resolve_device("cuda", workers=2) == "cuda"
    monkeypatch.delenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", raising=False)
    assert ray_train._starts() == 60
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "1800")
    assert ray_train._starts() == 3
    assert ray_train._missing_resources(scale) == "5 more CPUs and 2 more GPUs"
    device_module._said.clear()
    assert resolve_device("auto", workers=2) == "cpu"
    assert "--device cuda waits for one" in capsys.readouterr().err
    cluster(monkeypatch, {"CPU": 8.0, "GPU": 2.0})
    assert ray_train._missing_resources(scale) == ""
    cluster(monkeypatch, {"CPU": 4.0, "GPU": 1.0}, local=True)
    for device in ("auto", "cuda"):
        with pytest.raises(ValueError, match="there are 1 GPUs; give --workers 1, or --device cpu"):
            resolve_device(device, workers=2)
    monkeypatch.setattr(device_module, "_gpu_problem", lambda on_ray: None)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert resolve_device("cpu", workers=2) == "cpu"
