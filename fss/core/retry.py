"""Try again what an object store refused for the moment.

Arrow and the AWS library retry by themselves, but not everything: a refusal that is longer than the range that was
asked for breaks their reading ("Failed to flush response stream"), and is then final.
"""

import functools
import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS = 5
FIRST_WAIT_S = 0.2
_TRANSIENT = (
    *("INTERNAL_FAILURE", "SLOW_DOWN", "SERVICE_UNAVAILABLE", "THROTTLING", "REQUEST_TIMEOUT", "NETWORK_CONNECTION"),
    *("SlowDown", "HTTP status 500", "HTTP status 503", "curlCode"),
)
_DEAD = "curlCode: 28"  # no answer within the time limit: waiting for it again would only be longer


def is_transient(error: OSError) -> bool:
    """Tell whether an object store may answer the same request the next time."""
    text = str(error)
    return "AWS Error" in text and _DEAD not in text and any(word in text for word in _TRANSIENT)


def retry_transient(function: Callable[P, R]) -> Callable[P, R]:
    """Call a function again where an object store refused for the moment; it must be safe to call twice."""

    @functools.wraps(function)
    def tried(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except OSError as error:
                if attempt == ATTEMPTS - 1 or not is_transient(error):
                    raise
                logging.getLogger(__name__).info("attempt %d failed: %s", attempt + 1, error)
                time.sleep(FIRST_WAIT_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    return tried
