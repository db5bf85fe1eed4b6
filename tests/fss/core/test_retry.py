"""What an object store refuses for the moment is asked again; everything else is told at once."""

import pytest
import tenacity

from fss.core.retry import ATTEMPTS, retry_transient

BUSY = OSError(
    "When reading 'x': AWS Error INTERNAL_FAILURE during GetObject operation: Failed to flush response stream"
)


@pytest.mark.parametrize(
    ("errors", "calls", "fails"),
    [
        ([BUSY, BUSY], 3, False),
        ([BUSY] * ATTEMPTS, ATTEMPTS, True),
        ([OSError("AWS Error ACCESS_DENIED during GetObject operation")], 1, True),
        ([OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body.")], 2, False),
        ([OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 28, Timeout")], 1, True),
        ([OSError(28, "No space left on device")], 1, True),
        ([FileNotFoundError("AWS Error RESOURCE_NOT_FOUND")], 1, True),
    ],
)
def test_only_what_may_pass_is_tried_again(
    errors: list[OSError], calls: int, fails: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fss.core.retry")
    waited: list[float] = []
    monkeypatch.setattr(tenacity.nap.time, "sleep", waited.append)
    asked: list[int] = []

    @retry_transient
    def read(value: int) -> int:
        asked.append(value)
        if len(asked) <= len(errors):
            raise errors[len(asked) - 1]
        return value

    if fails:
        with pytest.raises(OSError, match=r"."):
            read(7)
    else:
        assert read(7) == 7
    assert len(asked) == calls
    assert waited == pytest.approx([0.2, 0.4, 0.8, 1.6][: calls - 1])
    assert caplog.messages == [f"attempt {n} failed: {error}" for n, error in enumerate(errors[: calls - 1], start=1)]
