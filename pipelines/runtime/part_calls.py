"""Calls of a function of parts on Ray: a bounded number in flight, on the machines that the cluster has at the moment.

A call takes some part names and reports part by part. There is always more in flight than runs, so that an autoscaler
sees the demand and a machine that joins has work at once. Ray Data was measured first: pipelines/README.md has the
numbers.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError

from fss.core.system import available_cores
from pipelines.runtime.part_worker import ManyPartsFunction, Row, serve_parts
from pipelines.runtime.ray_session import is_local

WINDOW = 64  # fewest calls in flight on a cluster
CALL_S = 0.5  # least seconds of work in a call, as far as there are enough parts
CALLS_PER_S = 300  # calls that the driver starts at most; with more cores, a call has more parts
MAX_NAMES = 256  # most parts of a call
LOOK_S = 1e-5  # seconds between two looks at the calls in flight, for each of them
REFRESH_S = 2.0  # seconds between looks at the cluster's resources
FAILED_STARTS = 3  # processes that may fail to start in a row


@dataclass(frozen=True, kw_only=True)
class Crash:
    """A call whose process died."""

    names: list[str]
    """Parts that it had not reported."""
    reason: str
    """What is known about the death, in words."""
    machine_lost: bool
    """Whether the whole machine is gone."""


@dataclass(kw_only=True)
class Call:
    """A call in flight."""

    names: dict[str, None]
    """Parts that it has not reported, in order."""
    actor: Any = None
    """Process of the call; None for a task."""
    node: str = ""
    """Node that it runs on; empty until it runs."""
    reported: float = field(default_factory=time.monotonic)
    """Time of the last report."""


class Calls:
    """Calls in flight; a subclass says how one is started and how many names the next one takes."""

    def __init__(
        self, function: ManyPartsFunction, *, timeout_s: float | None, cpus: float = 1, gpus: float = 0
    ) -> None:
        self.function, self.timeout_s, self.cpus, self.gpus = function, timeout_s, cpus, gpus
        self.in_flight: dict[Any, Call] = {}
        self._resources_at = -REFRESH_S
        self._slots = 0

    def room(self, names: int) -> int:
        """Return how many of ``names`` waiting parts the next call takes; 0 if there are enough calls in flight."""
        raise NotImplementedError

    def submit(self, names: Sequence[str]) -> None:
        """Start a call."""
        raise NotImplementedError

    def release(self, call: Call, *, died: bool) -> None:
        """Note the end of a call."""

    def close(self) -> None:
        """Cancel what is in flight."""
        for generator in self.in_flight:
            ray.cancel(generator)
        self.in_flight.clear()

    def missing(self) -> str | None:
        """Return what a call takes, in words, if the cluster has no machine for one at the moment."""
        if self._fitting():
            return None
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus:g} CPU{gpus}"

    def running(self) -> int:
        """Return the number of calls that have a process."""
        return sum(bool(call.node) for call in self.in_flight.values())

    def slots(self) -> int:
        """Return how many calls the cluster can run at the moment; at least 1."""
        return max(1, self._fitting())

    def poll(self, seconds: float) -> Iterator[list[Row] | Crash]:
        """Wait up to ``seconds`` for reports, and yield all that have arrived."""
        for generator in self._ready(seconds):
            call = self.in_flight[generator]
            try:
                report = ray.get(next(generator))
            except StopIteration:
                del self.in_flight[generator]
                self.release(call, died=False)
                if call.names:
                    yield Crash(names=list(call.names), reason="it was not reported", machine_lost=False)
            except RayError as error:
                del self.in_flight[generator]
                self.release(call, died=True)
                yield self._crash(call, error)
            else:
                call.reported = time.monotonic()
                if isinstance(report, str):
                    call.node = report
                    continue
                for row in report:
                    del call.names[row["part"]]
                yield report

    def _fitting(self) -> int:
        if time.monotonic() - self._resources_at >= REFRESH_S:
            self._resources_at = time.monotonic()
            cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
            fitting = [cluster.get("CPU", 0) / self.cpus] + ([cluster.get("GPU", 0) / self.gpus] if self.gpus else [])
            self._slots = int(min(fitting))
        return self._slots

    def _ready(self, seconds: float) -> list[Any]:
        waiting = list(self.in_flight)
        if not waiting:
            time.sleep(min(seconds, 0.05))
            return []
        ready, _ = ray.wait(waiting, num_returns=1, timeout=seconds, fetch_local=False)
        if ready and len(waiting) > 1:
            # A look costs microseconds for each call in flight, so with thousands it has to find several reports.
            time.sleep(LOOK_S * len(waiting))
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        return ready

    def _crash(self, call: Call, error: RayError) -> Crash:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        lost = isinstance(error, NodeDiedError) or bool(call.node and call.node not in alive)
        if isinstance(error, RayTaskError):
            reason = str(error)
        elif lost:
            reason = "its machine was lost"
        elif self.timeout_s is not None and time.monotonic() - call.reported >= self.timeout_s:
            reason = f"it took longer than {self.timeout_s:g} s (--part-timeout)"
        elif isinstance(error, OutOfMemoryError):
            reason = "its machine ran out of memory"
        else:
            reason = "its process died: killed, or crashed in compiled code"
        return Crash(names=list(call.names), reason=reason, machine_lost=lost)


class TaskCalls(Calls):
    """Calls as tasks of one CPU; the number of parts of a call follows from the time that a part takes.

    Args:
        function: makes parts.
        workers: number of concurrent calls. None: one more than the cores of this machine, or all CPUs of a cluster.
        timeout_s: seconds without a report after which a process ends itself.
        gpus: GPUs per task.
    """

    def __init__(
        self, function: ManyPartsFunction, *, workers: int | None, timeout_s: float | None, gpus: float = 0
    ) -> None:
        super().__init__(function, timeout_s=timeout_s, gpus=gpus)
        # The logical CPUs of a local Ray exceed its cores. One more task than cores covers the time between two tasks.
        self.workers = available_cores() + 1 if workers is None and is_local() else workers
        self._part_s: float | None = None

        def serve(names: list[str]) -> Iterator[Any]:
            yield from serve_parts(function, names, timeout_s)

        # The driver counts the tries: Ray's own retries would hide which part kills its process.
        options: Any = {"num_cpus": 1, "num_gpus": gpus or None, "max_retries": 0, "num_returns": "streaming"}
        self._remote: Any = ray.remote(**options)(serve)

    def room(self, names: int) -> int:
        """Return the parts of the next task: about half a second of work."""
        slots = self.workers or self.slots()
        if not names or len(self.in_flight) >= (self.workers or max(WINDOW, 2 * slots)):
            return 0
        if self._part_s is None:
            return 1
        call_s = max(CALL_S, slots / CALLS_PER_S)
        return max(1, min(MAX_NAMES, names // (2 * slots), int(call_s / max(self._part_s, 1e-6))))

    def submit(self, names: Sequence[str]) -> None:
        """Start a task."""
        self.in_flight[self._remote.remote(list(names))] = Call(names=dict.fromkeys(names))

    def poll(self, seconds: float) -> Iterator[list[Row] | Crash]:
        """Yield the reports that arrive, and learn the time that a part takes."""
        for report in super().poll(seconds):
            if not isinstance(report, Crash):
                for row in report:
                    last = row["seconds"] if self._part_s is None else self._part_s
                    self._part_s = 0.9 * last + 0.1 * row["seconds"]
            yield report


def parts_per_call(names: int, processes: int, *, most: int) -> int:
    """Return how many of ``names`` waiting parts a process takes: at most half of its share, and towards the end one.

    With two or more, it works ahead. The last calls are small, so that all processes end at about the same time.
    """
    share = names // processes
    return max(1, min(names, most, max(min(2, share), share // 2)))


class ActorCalls(Calls):
    """Calls of long-lived processes, such as one per GPU; their number grows with the cluster, up to a maximum.

    Args:
        function: makes parts.
        actors: most processes. None: as many as the cluster has resources for, now or later.
        gpus: GPUs per process.
        names: most parts per call.
        timeout_s: seconds without a report after which a process ends itself.
    """

    def __init__(
        self, function: ManyPartsFunction, *, actors: int | None, gpus: float, names: int, timeout_s: float | None
    ) -> None:
        super().__init__(function, timeout_s=timeout_s, gpus=gpus)
        self.actors, self.names = actors, names
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._alive = 0
        self._failed_starts = 0
        self._remote: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0)(_Process)

    def room(self, names: int) -> int:
        """Return the parts of the next call; 0 while no process is idle."""
        self._grow(names)
        if not names or not self._idle:
            return 0
        return parts_per_call(names, self._processes(), most=self.names)

    def submit(self, names: Sequence[str]) -> None:
        """Call an idle process."""
        actor = self._idle.pop()
        generator = actor.serve.options(num_returns="streaming").remote(list(names))
        self.in_flight[generator] = Call(names=dict.fromkeys(names), actor=actor)

    def release(self, call: Call, *, died: bool) -> None:
        """Make the process of a call idle, or count it as dead."""
        if died:
            self._alive -= 1
        else:
            self._idle.append(call.actor)

    def close(self) -> None:
        """End all processes."""
        actors = [*self._idle, *self._starting.values(), *(call.actor for call in self.in_flight.values())]
        for actor in actors:
            ray.kill(actor)
        self.in_flight.clear()

    def _ready(self, seconds: float) -> list[Any]:
        waiting = [*self.in_flight, *self._starting]
        if not waiting:
            return []
        ready, _ = ray.wait(waiting, num_returns=1, timeout=seconds)
        for reference in [each for each in ready if each in self._starting]:
            actor = self._starting.pop(reference)
            try:
                ray.get(reference)
            except RayError as error:
                self._failed_starts += 1
                if self._failed_starts >= FAILED_STARTS:
                    raise RuntimeError(f"{FAILED_STARTS} processes in a row did not start: {error}") from error
                continue
            self._failed_starts = 0
            self._alive += 1
            self._idle.append(actor)
        return [each for each in ready if each in self.in_flight]

    def _processes(self) -> int:
        """Return how many processes share the waiting parts: those that run, and those that start on machines there."""
        return max(1, self._alive + min(len(self._starting), max(0, self.slots() - self._alive)))

    def _grow(self, names: int) -> None:
        """Ask for processes where there is work for them; those that wait for a machine are demand that Ray sees."""
        # Few parts are worth a process on a machine that is there, but not the start of another machine.
        useful = max(-(-names // self.names), min(names, self.slots() - self._alive))
        most = min(self.actors or sys.maxsize, self._alive + useful)
        demand = 0 if is_local() else max(1, self._alive)
        waiting = max(demand, self.slots() - self._alive) if self.actors is None else most
        while self._alive + len(self._starting) < most and len(self._starting) < waiting:
            actor = self._remote.remote(self.function, self.timeout_s)
            self._starting[actor.ready.remote()] = actor


class _Process:
    """A long-lived process."""

    def __init__(self, function: ManyPartsFunction, timeout_s: float | None) -> None:
        self.function, self.timeout_s = function, timeout_s

    def ready(self) -> None:
        """Return once the process runs."""

    def serve(self, names: list[str]) -> Iterator[Any]:
        """Make parts."""
        yield from serve_parts(self.function, names, self.timeout_s)
