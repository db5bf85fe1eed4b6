"""The server of the page."""

import asyncio
from typing import Any, cast

import pytest

from fss.app import server


class Fetched:
    """Stands for a page that a program fetches without running its script."""

    tab_id = None

    async def connected(self) -> None:
        """Return as NiceGUI does when it gives up."""


def test_a_page_that_never_connects_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    monkeypatch.setattr(server, "Page", lambda *words: built.append(words))
    asyncio.run(server.show(cast(Any, None), cast(Any, Fetched()), "run"))
    assert not built
