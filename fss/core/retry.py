"""Retry of requests that an object store refused for the moment.

Arrow and the AWS library retry by themselves, but not everything: a refusal that is longer than the range that was
asked for breaks their reading ("Failed to flush response stream"), and is then final.
"""

import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tenacity import RetryCallState, retry, retry_if_exception, stop_after_attempt, wait_exponential

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS = 5
FIRST_WAIT_S = 0.2
_TRANSIENT = (
    *("INTERNAL_FAILURE", "SLOW_DOWN", "SERVICE_UNAVAILABLE", "THROTTLING", "REQUEST_TIMEOUT", "NETWORK_CONNECTION"),
    *("SlowDown", "HTTP status 500", "HTTP status 503", "curlCode"),
)
_DEAD = "curlCode: 28"  # no answer within the time limit: waiting for it again would only be longer


def is_transient(error: BaseException) -> bool:
    """Tell whether an object store may answer the same request the next time."""
    text = str(error)
    refused = isinstance(error, OSError) and "AWS Error" in text and _DEAD not in text
    return refused and any(word in text for word in _TRANSIENT)


def retry_transient(function: Callable[P, R]) -> Callable[P, R]:
    """Call a function again where an object store refused for the moment; it must be safe to call twice."""
    return retry(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(multiplier=FIRST_WAIT_S),
        before_sleep=_log,
        reraise=True,
    )(function)


def _log(state: RetryCallState) -> None:
    assert state.outcome is not None
    logging.getLogger(__name__).info("attempt %d failed: %s", state.attempt_number, state.outcome.exception())
