"""The photographs beside the editor, with their masks and what is known about them."""

import asyncio
from collections.abc import Awaitable, Callable

from nicegui import run, ui

from fss.app.layers import css_colour, mask_uri
from fss.app.session import Session, State

SIDE = 256
"""Long side of a small photograph, in pixels."""
_PER_PAGE = 24
_FILTERS = {
    "all": "All",
    "example": "Examples",
    "corrected": "Corrected",
    "opened": "As opened",
    "empty": "Opened empty",
    "found": "Found",
    "not found": "Not found",
    "open": "Not searched",
    "unusable": "Unusable",
}


class Gallery:
    """Pages of small photographs: by name at first, and by confidence after a search."""

    def __init__(
        self, session: Session, url: Callable[[int, int], str], on_choose: Callable[[int], Awaitable[None]]
    ) -> None:
        """Build the gallery at this place of the page.

        Args:
            session: the work of the tab.
            url: returns the address of a photograph of this position and side.
            on_choose: called with the position of the photograph that was clicked.
        """
        self.session, self.url, self.on_choose = session, url, on_choose
        self.chosen: int | None = None
        self.turn = asyncio.Lock()
        with ui.row().classes("w-full items-center gap-2 no-wrap"):
            self.text = ui.input(placeholder="Name contains", on_change=self._search).props("dense clearable outlined")
            self.text.classes("grow")
            opened = any(answer.opened for answer in session.answers.values())
            filters = {state: words for state, words in _FILTERS.items() if opened or state not in ("opened", "empty")}
            self.state = ui.select(filters, value="all", on_change=self._search).props("dense outlined")
            self.state.classes("w-32")
        self.sorting = ui.label("Sorted by confidence: the expected overlap of a mask with the object.").classes(
            "hint mt-2"
        )
        self.grid = ui.element("div").classes("gallery")
        with ui.row().classes("w-full justify-center"):
            self.pages = ui.pagination(1, 1, on_change=self.refresh).props("max-pages=5 boundary-numbers dense")

    async def _search(self) -> None:
        self.pages.value = 1
        await self.refresh()

    def positions(self) -> list[int]:
        """Return the photographs that the filters let through, in their order."""
        text, state = (self.text.value or "").casefold(), self.state.value
        return [
            position
            for position in self.session.order()
            if text in self.session.photographs[position].name.casefold()
            and state in ("all", self.session.state(position))
        ]

    async def refresh(self) -> None:
        """Draw the page of photographs again."""
        async with self.turn:
            positions = self.positions()
            self.pages.max = max(1, -(-len(positions) // _PER_PAGE))
            self.sorting.set_visibility(any(not answer.opened for answer in self.session.answers.values()))
            self.pages.set_visibility(self.pages.max > 1)
            first = (min(self.pages.value, self.pages.max) - 1) * _PER_PAGE
            shown = positions[first : first + _PER_PAGE]
            masks = await run.io_bound(lambda: {position: self._mask(position) for position in shown})
            self.grid.clear()
            with self.grid:
                for position in shown:
                    self._card(position, (masks or {}).get(position, ""))
                if not shown:
                    ui.label("No photograph fits the filter.").classes("text-sm text-grey-7 p-2")

    async def choose(self, position: int) -> None:
        """Choose a photograph."""
        self.chosen = position
        await self.on_choose(position)
        await self.refresh()

    async def step(self, by: int) -> None:
        """Choose the next or the previous photograph of the list."""
        positions = self.positions()
        if positions:
            index = positions.index(self.chosen) + by if self.chosen in positions else 0
            await self.choose(positions[index % len(positions)])

    def _mask(self, position: int) -> str:
        mask = self.session.mask(position) if self.session.state(position) != "open" else None
        return mask_uri(mask, SIDE) if mask is not None and mask.any() else ""

    def _card(self, position: int, mask: str) -> None:
        name = self.session.photographs[position].name
        card = ui.element("button").classes("card chosen" if position == self.chosen else "card")
        card.props("type=button").on("click", lambda: self.choose(position))
        card.props["aria-label"] = name
        with card:
            with ui.element("div").classes("picture"):
                ui.element("img").props(f'src="{self.url(position, SIDE)}" loading=lazy alt=""')
                if mask:
                    ui.element("img").props(f'src="{mask}" alt=""')
                self._badge(position)
            ui.label(name.rpartition("/")[2]).classes("name").tooltip(name)

    def _badge(self, position: int) -> None:
        state, answer = self.session.state(position), self.session.answers.get(position)
        words: dict[State, str] = {"found": f"{answer.confidence:.0%}" if answer else "", "open": "", "opened": ""}
        text = words.get(state, state)
        if text:
            kind = "doubtful" if self.session.doubtful(position) else state.replace(" ", "-")
            badge = ui.label(text).classes(f"badge is-{kind}")
            if state == "example":
                badge.style(f"background: {css_colour('object')}")
