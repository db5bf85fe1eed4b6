"""How a run begins and ends: an unfinished run of the same work is found again, and an error ends a run as failed."""

from collections.abc import Iterator
from contextlib import contextmanager

from fss.tracking.delivery import ERROR_TAG
from fss.tracking.run import Run
from fss.tracking.store import ask, ensure_experiment, tracking_client


def find_unfinished(key: str, *, uri: str, experiment: str, private: bool = False) -> Run | None:
    """Return the latest unfinished run with the tag ``fss.key = key``, marked as running, or None.

    Args:
        key: value of the tag.
        uri: tracking URI.
        experiment: name of the experiment to search.
        private: whether the run is private.

    Raises:
        ValueError: the store does not answer.
    """
    experiment_id = ensure_experiment(uri, experiment)
    query, order = f"tags.`fss.key` = '{key}'", ["attributes.start_time DESC"]
    runs = ask(uri, lambda: tracking_client(uri).search_runs([experiment_id], query, order_by=order))
    unfinished = [run.info.run_id for run in runs if run.info.status != "FINISHED"]
    return Run.resume(unfinished[0], uri=uri, private=private) if unfinished else None


@contextmanager
def end_on_exit(run: Run) -> Iterator[Run]:
    """End ``run`` when the block exits: FINISHED, KILLED on Ctrl-C or SIGTERM, or FAILED with the error as a tag."""
    try:
        yield run
    except BaseException as error:
        # Compiled code may wrap an interrupt in another error.
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
            run.end("KILLED")
        else:
            run.set_tags({ERROR_TAG: f"{type(error).__name__}: {error}"[:500]})
            run.end("FAILED")
        raise
    run.end()
