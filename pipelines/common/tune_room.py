"""The room of trials that a sweep stopped, given to the trials that follow."""

from typing import Any

import ray
from ray import tune
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.util.placement_group import PlacementGroup, remove_placement_group


class FreedRoom(tune.Callback):
    """Frees what the trainings of stopped trials reserved.

    Tune ends a stopped trial's process, and with it the controller of its training, but Ray keeps what the controller
    reserved for the workers until the whole job ends. Ray Train's own remedy asks the dashboard which controllers live;
    a local Ray has none, and each stopped trial took a CPU with it.
    """

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look for reservations of dead controllers; the look takes a millisecond."""
        free_room()


def free_room() -> int:
    """Remove the reservations of this job's actors that are dead; returns how many there were."""
    job, removed = ray.get_runtime_context().get_job_id(), 0
    for entry in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(entry)
        # Ray calls the creator dead, too, where there never was an actor: what the driver reserved for the trials.
        dead = group.creator_actor_dead and not ray.ActorID(group.creator_actor_id).is_nil()
        if dead and group.state != PlacementGroupTableData.REMOVED and group.creator_job_id.hex() == job:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            removed += 1
    return removed
