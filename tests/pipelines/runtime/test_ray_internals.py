"""What a stopped trial's training reserved is free for the next."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from pipelines.runtime import ray_internals
from pipelines.runtime.ray_internals import remove_dead_reservations
from pipelines.tuning.callbacks import ReservationCleaner


@ray.remote(num_cpus=0)
class Controller:
    """Reserves a CPU, as the controller of a training does for its workers."""

    def reserve(self) -> bool:
        """Wait until the CPU is there."""
        group = placement_group([{"CPU": 1}])
        return bool(ray.get(group.ready()) is not None)


def until(done: Callable[[], bool]) -> bool:
    """Wait until something holds, half a minute at most; say whether it does."""
    deadline = time.monotonic() + 30
    while not (holds := done()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return holds


def free_cpus() -> float:
    """The CPUs that nobody has reserved."""
    return float(ray.available_resources().get("CPU", 0.0))


def look() -> float:
    """What a sweep's driver does between steps; returns the CPUs that are free then."""
    ReservationCleaner().on_step_end(0, [])
    return free_cpus()


@pytest.mark.usefixtures("ray_local")
def test_the_room_of_a_dead_controller_is_free_again_and_others_keep_their_own() -> None:
    whole = free_cpus()
    drivers = placement_group([{"CPU": 0.01}])
    ray.get(drivers.ready())
    assert remove_dead_reservations() == 0, "what the driver reserved is not an actor's"
    remove_placement_group(drivers)
    living, dead = Controller.remote(), Controller.remote()  # type: ignore[attr-defined]
    assert ray.get([living.reserve.remote(), dead.reserve.remote()]) == [True, True]
    assert until(lambda: free_cpus() == whole - 2)
    assert remove_dead_reservations() == 0
    ray.kill(dead)
    assert until(lambda: remove_dead_reservations() == 1), "Ray notices a while later that it is dead"
    assert until(lambda: free_cpus() == whole - 1)
    ray.kill(living)
    assert until(lambda: look() == whole)
    assert remove_dead_reservations() == 0


def test_a_ray_without_an_internal_name_is_told_with_the_version_to_install() -> None:
    with pytest.raises(RuntimeError, match=r"has no ray\._private\.nothing; .*pip install 'ray==2\.60\.\*'"):
        ray_internals._internal("ray._private", "nothing")


def test_private_names_of_ray_stand_in_one_module() -> None:
    private = re.compile(r"ray\._private|ray\.\w+\._internal|ray\.core\.generated|ray\.train\.torch\.config")
    modules = {path.name for path in Path("pipelines").rglob("*.py") if private.search(path.read_text())}
    assert modules <= {"ray_internals.py"}
