"""The steps beside the editor: examples, the search, and the masks as files or as a mask set."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from nicegui import run, ui

from fss.app.export import Written, coco_file, png_archive, write_mask_set
from fss.app.layers import COLOURS, css_colour, mask_uri
from fss.app.session import Kind, Search, Session, State
from fss.app.workspace import Workspace
from fss.core.storage_errors import explain_storage_error
from fss.inference.prediction import UNSURE

T = TypeVar("T")
SIDE = 96
"""Long side of the picture of an example, in pixels."""

_TOLD: dict[State, str] = {
    "opened": "as in the mask set",
    "empty": "empty in the mask set",
    "found": "found",
    "corrected": "corrected",
    "not found": "not found",
    "unusable": "unusable",
}
"""States that are counted, and their words."""


class Panel:
    """The numbered steps of the page."""

    def __init__(
        self,
        workspace: Workspace,
        session: Session,
        url: Callable[[int, int], str],
        on_choose: Callable[[int], Awaitable[None]],
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        """Build the steps at this place of the page.

        Args:
            workspace: what all tabs share.
            session: the work of the tab.
            url: returns the address of a photograph of this position and side.
            on_choose: called with the position of an example that was clicked.
            on_change: called when there are other examples or answers.
        """
        self.workspace, self.session, self.url = workspace, session, url
        self.on_choose, self.on_change = on_choose, on_change
        self.search: Search | None = None
        if workspace.mask_set:
            self._opened_note()
        self._examples_step()
        self._search_step()
        self._export_step()
        self._mask_set_step()
        ui.timer(0.5, self._follow)

    def _opened_note(self) -> None:
        """Say what the opened masks are, and what to do with them."""
        photographs = self.session.photographs
        text = (
            f'The masks are those of "{self.workspace.label}" in the mask set "{self.workspace.mask_set}". Look '
            "through them, correct them, and write them into another set (4). A search (1, 2) replaces those that are "
            "not corrected."
        )
        if photographs.total > len(photographs):
            text += (
                f" The other set will lack the masks of {photographs.total - len(photographs):,} photographs that are "
                f"not on this page; start it with --max-photographs {photographs.total} for all."
            )
        ui.label(text).classes("hint notice")

    def _examples_step(self) -> None:
        _heading("1", "Examples")
        self.examples = ui.element("div").classes("shots")

    def _search_step(self) -> None:
        _heading("2", "Find in the others")
        with ui.row().classes("w-full no-wrap gap-2"):
            self.find_button = ui.button("Find", icon="search", on_click=self._find).props("no-caps").classes("grow")
            self.stop_button = ui.button("Stop", on_click=self._stop).props("no-caps outline")
        self.progress = ui.linear_progress(0, show_value=False).props("rounded size=8px")
        self.status = ui.label().classes("text-sm")
        self.stop_button.set_visibility(False)
        self.progress.set_visibility(False)

    def _export_step(self) -> None:
        _heading("3", "Export the masks")
        self.label = (
            ui.input("Name of the object", value=self.workspace.label).props("dense outlined").classes("w-full")
        )
        with ui.row().classes("w-full no-wrap gap-2 my-2"):
            self.coco_button = ui.button("COCO", icon="download", on_click=self._export_coco)
            self.png_button = ui.button("PNG", icon="download", on_click=self._export_pngs)
            for button in (self.coco_button, self.png_button):
                button.props("no-caps outline").classes("grow")
        ui.label("All examples, corrections and answers. Where the object is not found, the mask is empty.").classes(
            "hint"
        )

    def _mask_set_step(self) -> None:
        _heading("4", "Write a mask set")
        collection = self.workspace.collection
        if collection is None:
            root = self.session.photographs.root
            ui.label("Start the page with --collection FOLDER, and the masks are written into a collection:").classes(
                "hint"
            )
            ui.label(f"fss app --photographs {root} --collection {root.rstrip('/')}-collection").classes("command")
            return
        self.name = ui.input("Mask set", value="corrected").props("dense outlined").classes("w-full")
        with ui.row().classes("w-full items-center no-wrap gap-2 my-2"):
            self.replace = ui.checkbox("Replace").props("dense")
            ui.space()
            self.write_button = ui.button("Write", icon="save", on_click=self._write).props("no-caps outline")
        ui.label(f"Collection: {collection}").classes("hint")

    async def refresh(self) -> None:
        """Draw the examples and the counts again."""
        groups: tuple[tuple[Kind, list[int]], ...] = (("object", self.session.examples), ("other", self.session.others))
        entries = [(position, kind) for kind, positions in groups for position in positions]
        masks = await run.io_bound(lambda: [self._mask(position, kind) for position, kind in entries])
        self.examples.clear()
        with self.examples:
            if not entries:
                ui.label("Draw a box around the object in one photograph.").classes("hint")
            for (position, kind), mask in zip(entries, masks or [], strict=True):
                self._example(position, kind, mask)
        self.find_button.set_enabled(bool(self.session.examples) and self.search is None)
        if self.search is None:
            self.status.text = summarize(self.session)

    def _mask(self, position: int, kind: Kind) -> str:
        mask = self.session.mask(position, kind)
        return mask_uri(mask, SIDE, COLOURS[kind]) if mask is not None and mask.any() else ""

    def _example(self, position: int, kind: Kind, mask: str) -> None:
        async def remove() -> None:
            (self.session.remove_example if kind == "object" else self._remove_other)(position)
            await self.on_change()

        with ui.element("div").classes("shot").style(f"border-color: {css_colour(kind)}"):
            with ui.element("button").classes("picture").on("click", lambda: self.on_choose(position)) as picture:
                picture.props["aria-label"] = f"example {self.session.photographs[position].name}"
                ui.element("img").props(f'src="{self.url(position, SIDE)}" alt=""')
                if mask:
                    ui.element("img").props(f'src="{mask}" alt=""')
            ui.label("object" if kind == "object" else "not this").classes("name")
            button = ui.button(icon="close", on_click=remove).props("flat dense round size=xs").classes("remove")
            button.props["aria-label"] = "remove the example"

    def _remove_other(self, position: int) -> None:
        self.session.clear(position, "other")

    async def _find(self) -> None:
        """Search in a thread; the timer shows how far it is."""
        try:
            self.search = search = self.session.start_search()
        except ValueError as error:
            _warn(error)
            return
        searched = self._in_turn(self.session.run_search, search)
        self.workspace.searches.append(search)
        self._show_search(True)
        with _working(self.find_button):
            try:
                await self.refresh()
                await searched
            finally:
                self.workspace.searches.remove(search)
                self.search = None
                self._show_search(False)
        if self.find_button.is_deleted:
            return
        for note in search.notes:
            ui.notify(note, multi_line=True, timeout=8000)
        await self.on_change()

    def _in_turn(self, call: Callable[..., T], *arguments: object) -> Awaitable[T]:
        """Call a function in the thread of the searches, so that masks are taken after a search, not in its middle."""
        return asyncio.get_running_loop().run_in_executor(self.workspace.worker, call, *arguments)

    def _show_search(self, running: bool) -> None:
        self.stop_button.set_visibility(running)
        self.progress.set_visibility(running)

    def _follow(self) -> None:
        """Show the progress of a search."""
        search = self.search
        if search is not None:
            self.progress.value = search.done / max(1, search.total)
            self.status.text = f"{search.done:,} of {search.total:,} photographs"

    def _stop(self) -> None:
        self.stop()

    def stop(self) -> None:
        """End a search after the current photographs."""
        if self.search is not None:
            self.search.stop.set()

    async def _export_coco(self) -> None:
        await self._download(self.coco_button, coco_file, "instances.json")

    async def _export_pngs(self) -> None:
        await self._download(self.png_button, png_archive, "masks.zip")

    async def _download(self, button: ui.button, encode: Callable[..., bytes], name: str) -> None:
        data = None
        with _working(button):
            collection = self.workspace.open_collection()
            classes = collection.classes if collection else {}
            data = await self._in_turn(encode, self.session, self.label.value, classes)
        if data is not None and not button.is_deleted:
            ui.download.content(data, name)

    async def _write(self) -> None:
        written: Written | None = None
        with _working(self.write_button):
            written = await self._in_turn(self._write_mask_set)
        if written is not None and not self.write_button.is_deleted:
            ui.notify(written.words(), type="positive", multi_line=True)
            await self.on_change()

    def _write_mask_set(self) -> Written:
        assert self.workspace.collection is not None
        return write_mask_set(
            self.session,
            self.workspace.collection,
            self.name.value,
            self.label.value,
            overwrite=self.replace.value,
        )


def summarize(session: Session) -> str:
    """Return how many photographs have masks of which kind, and how many of the predicted ones are doubtful."""
    counts = session.counts()
    words = {state: f"{counts[state]:,} {words}" for state, words in _TOLD.items() if state in counts}
    if doubtful := sum(map(session.doubtful, range(len(session.photographs)))):
        words["found"] += f" ({doubtful:,} doubtful: confidence below {UNSURE:.0%})"
    return ", ".join(words.values())


def _heading(number: str, text: str) -> None:
    with ui.row().classes("w-full items-center gap-2 heading"):
        ui.label(number).classes("number")
        ui.label(text).classes("text-base font-medium")


@contextlib.contextmanager
def _working(button: ui.button) -> Iterator[None]:
    """Show that what a button has started is not finished, and tell what went wrong, unless the tab is closed."""
    button.props("loading")
    try:
        yield
    except (OSError, ValueError) as error:
        if not button.is_deleted:
            _warn(error)
    finally:
        button.props(remove="loading")


def _warn(error: Exception) -> None:
    ui.notify(explain_storage_error(error) or str(error), type="warning", multi_line=True, timeout=8000)
