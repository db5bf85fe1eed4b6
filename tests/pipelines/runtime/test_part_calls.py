"""How long-lived processes share the parts of a pass; no Ray."""

from types import SimpleNamespace

import pytest

from pipelines.runtime import part_calls
from pipelines.runtime.part_calls import ActorCalls, parts_per_call


class Actors:
    """Stands for Ray's actors."""

    def __init__(self) -> None:
        self.started = 0

    def remote(self, *arguments: object) -> SimpleNamespace:
        self.started += 1
        return SimpleNamespace(ready=SimpleNamespace(remote=object))


def actor_calls(
    monkeypatch: pytest.MonkeyPatch, *, slots: int, local: bool, most: int | None = None, names: int = 8
) -> tuple[ActorCalls, Actors]:
    monkeypatch.setattr(part_calls, "is_local", lambda: local)
    calls, actors = ActorCalls(lambda names: iter(()), actors=most, gpus=1, names=names, timeout_s=None), Actors()
    monkeypatch.setattr(calls, "slots", lambda: slots)
    monkeypatch.setattr(calls, "_remote", actors)
    return calls, actors


@pytest.mark.parametrize(
    ("slots", "local", "most", "names", "parts", "started"),
    [
        (8, True, None, 8, 23, 8),  # the parts of PASCAL VOC
        (8, False, None, 8, 23, 8),
        (8, True, 3, 8, 23, 3),
        (8, True, None, 8, 2, 2),
        (8, True, None, 8, 1000, 8),
        (8, True, None, 1, 5, 5),  # the shares of an evaluation
        (1, False, None, 8, 23, 1),  # one more is asked for as soon as this one runs
    ],
)
def test_every_gpu_gets_a_process(
    monkeypatch: pytest.MonkeyPatch, slots: int, local: bool, most: int | None, names: int, parts: int, started: int
) -> None:
    calls, actors = actor_calls(monkeypatch, slots=slots, local=local, most=most, names=names)
    assert calls.room(parts) == 0, "no process runs yet"
    assert actors.started == started


@pytest.mark.parametrize(("alive", "parts", "started"), [(1, 23, 1), (2, 23, 2), (8, 23, 3), (8, 5, 1), (8, 0, 0)])
def test_few_parts_start_few_machines(monkeypatch: pytest.MonkeyPatch, alive: int, parts: int, started: int) -> None:
    calls, actors = actor_calls(monkeypatch, slots=alive, local=False)
    calls._alive = alive
    calls.room(parts)
    assert actors.started == started


@pytest.mark.parametrize(("parts", "processes"), [(23, 8), (8, 8), (9, 8), (3, 8), (64, 8), (500, 8), (9, 1), (100, 3)])
def test_processes_have_equal_shares_and_work_ahead(parts: int, processes: int) -> None:
    waiting, loads, sizes = parts, [0] * processes, []
    while waiting:
        least = loads.index(min(loads))
        sizes.append(parts_per_call(waiting, processes, most=8))
        waiting -= sizes[-1]
        loads[least] += sizes[-1]
    assert max(loads) - min(loads) <= 1
    assert sizes[0] > 1 or parts < 2 * processes, "a process that has two parts reads the second one ahead"
    assert max(sizes) <= 8


def test_a_process_counts_as_soon_as_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, _ = actor_calls(monkeypatch, slots=8, local=True)
    calls.room(23)
    calls._starting.popitem()
    calls._alive = 1
    calls._idle.append(object())
    assert calls.room(23) == 2
