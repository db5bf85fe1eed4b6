"""What a stopped trial's training reserved is free for the next."""

import time
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from pipelines.common.tune_room import FreedRoom, free_room


@ray.remote(num_cpus=0)
class Controller:
    """Reserves a CPU, as the controller of a training does for its workers."""

    def reserve(self) -> bool:
        """Wait until the CPU is there."""
        group = placement_group([{"CPU": 1}])
        return bool(ray.get(group.ready()) is not None)


def free_cpus(expected: float) -> float:
    """The CPUs that are free, once they are as many as expected or half a minute has passed."""
    deadline = time.monotonic() + 30
    while (free := ray.available_resources().get("CPU", 0.0)) != expected and time.monotonic() < deadline:
        time.sleep(0.2)
    return free


def freed_within(seconds: float) -> int:
    """How many reservations are freed; Ray notices a while later that their actor is dead."""
    deadline, freed = time.monotonic() + seconds, 0
    while not freed and time.monotonic() < deadline:
        freed = free_room()
        time.sleep(0.1)
    return freed


@pytest.mark.usefixtures("ray_local")
def test_the_room_of_a_dead_controller_is_free_again_and_others_keep_their_own() -> None:
    whole = ray.available_resources()["CPU"]
    drivers = placement_group([{"CPU": 0.01}])
    ray.get(drivers.ready())
    assert free_room() == 0, "what the driver reserved is not an actor's"
    remove_placement_group(drivers)
    living, dead = Controller.remote(), Controller.remote()  # type: ignore[attr-defined]
    assert ray.get([living.reserve.remote(), dead.reserve.remote()]) == [True, True]
    assert free_cpus(whole - 2) == whole - 2
    assert free_room() == 0
    ray.kill(dead)
    assert freed_within(30) == 1
    assert free_cpus(whole - 1) == whole - 1
    ray.kill(living)
    nobody: list[Any] = []
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != whole and time.monotonic() < deadline:
        FreedRoom().on_step_end(0, nobody)
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == whole
    assert free_room() == 0
