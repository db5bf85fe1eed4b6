"""The tab that shows mask sets of the collection side by side."""

from collections.abc import Sequence

from nicegui import run, ui

from fss.app.comparison import Comparison, Row
from fss.app.layers import data_uri
from fss.app.workspace import Workspace
from fss.images.sheet_layout import Colour

_PER_PAGE = 8
_ORDERS = {"name": "By name", "difference": "Largest differences first"}
_NONE = ""


class ComparisonTab:
    """Choice of mask sets, and pages of photographs with their masks."""

    def __init__(self, workspace: Workspace) -> None:
        """Build the tab at this place of the page."""
        self.workspace = workspace
        self.comparison: Comparison | None = None
        with ui.element("div").classes("compare"):
            with ui.row().classes("w-full items-center gap-3"):
                self.selects = [
                    ui.select([_NONE], value=_NONE, label=label, on_change=self._open).props("dense outlined")
                    for label in ("First mask set", "Second mask set", "Third mask set")
                ]
                self.order = ui.toggle(_ORDERS, value="name", on_change=self._open).props("no-caps unelevated")
                ui.space()
                self.pages = ui.pagination(1, 1, on_change=self._show).props("max-pages=7 boundary-numbers dense")
            self.hint = ui.label().classes("hint mt-2")
            self.grid = ui.element("div").classes("sides")
        for select in self.selects:
            select.classes("w-48")

    async def offer(self) -> None:
        """Offer the mask sets that the collection has, and show the first two at first."""
        collection = self.workspace.open_collection()
        names = collection.mask_set_names() if collection is not None else []
        for number, select in enumerate(self.selects):
            value = select.value or (names[number] if number < min(2, len(names)) else _NONE)
            select.set_options([_NONE, *names], value=value if value in names else _NONE)
        if not names:
            self.hint.text = (
                "The collection has no mask set yet."
                if self.workspace.collection
                else "Start the page with --collection COLLECTION to see its mask sets."
            )
        await self._open()

    async def _open(self) -> None:
        """Open the chosen mask sets in the chosen order."""
        collection = self.workspace.open_collection()
        names = list(dict.fromkeys(select.value for select in self.selects if select.value))
        if collection is None or not names:
            self.comparison = None
            self.grid.clear()
            return
        difference = self.order.value == "difference" and len(names) > 1

        def build() -> Comparison:
            comparison = Comparison(collection, names, most=len(self.workspace.photographs))
            if difference:
                comparison.sort_by_difference()
            return comparison

        try:
            self.comparison = await run.io_bound(build)
        except ValueError as error:
            ui.notify(str(error), type="warning", multi_line=True, timeout=8000)
            return
        self.pages.max = max(1, -(-len(self.comparison or ()) // _PER_PAGE))
        self.pages.value = 1
        await self._show()

    async def _show(self) -> None:
        """Draw a page of photographs."""
        comparison = self.comparison
        if comparison is None:
            return
        rows = await run.io_bound(comparison.rows, (self.pages.value - 1) * _PER_PAGE, _PER_PAGE)
        names = [mask_set.name for mask_set in comparison.sets]
        if len(names) > 1:
            self.hint.text = (
                f"Agreement is the share of the pixels marked in {names[0]} or {names[1]} to which both give the same "
                "class."
            )
        self.grid.clear()
        self.grid.style(f"--sides: {1 + len(names)}")
        with self.grid:
            for name in ("photograph", *names):
                ui.label(name).classes("head")
            for row in rows or ():
                _row(row, names)


def _row(row: Row, names: Sequence[str]) -> None:
    agreement = "" if row.agreement is None else f", agreement {row.agreement:.0%}"
    _picture(row.photograph, [(None, f"{row.name}{agreement}")], row.name)
    for cell, name in zip(row.cells, names, strict=True):
        _picture(cell.jpeg, cell.entries, f"{row.name} in {name}")


def _picture(jpeg: bytes, entries: Sequence[tuple[Colour | None, str]], description: str) -> None:
    with ui.element("div"):
        image = ui.element("img").props(f'src="{data_uri(jpeg, "jpeg")}"')
        image.props["alt"] = description
        with ui.element("div").classes("words"):
            for colour, words in entries:
                if colour is not None:
                    ui.element("span").classes("swatch").style(f"background: rgb{colour}")
                ui.label(words).classes("inline")
