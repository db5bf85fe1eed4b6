"""The page: photographs on the left, the editor in the middle, the steps on the right."""

from pathlib import Path

from nicegui import ui
from nicegui.events import KeyEventArguments

from fss.app.comparison_tab import ComparisonTab
from fss.app.editor import Editor
from fss.app.gallery import Gallery
from fss.app.panel import Panel
from fss.app.workspace import Workspace

_STYLE = Path(__file__).with_name("page.css")


class Page:
    """What one tab shows."""

    def __init__(self, workspace: Workspace, tab: str, run: str) -> None:
        """Build the page.

        Args:
            workspace: what all tabs share.
            tab: id of the tab.
            run: id of the running page, which keeps a browser from showing photographs of an earlier one.
        """
        self.workspace, self.run = workspace, run
        self.session = workspace.session(tab)
        ui.colors(primary="#1d4f7a")
        ui.add_css(_STYLE)
        self._build()

    def _build(self) -> None:
        photographs = self.workspace.photographs
        with ui.element("div").classes("top w-full"):
            ui.label("fss app").classes("title")
            with ui.tabs().props("dense no-caps inline-label") as tabs:
                find = ui.tab("find", "Find an object")
                compare = ui.tab("compare", "Compare mask sets")
            shown = f"{len(photographs):,} photographs"
            if photographs.total > len(photographs):
                shown = f"the first {len(photographs):,} of {photographs.total:,} photographs (--max-photographs)"
            about = f"{shown} of {photographs.root} · model: {self.workspace.model}"
            ui.label(about).classes("about").tooltip(about)
        panels = ui.tab_panels(tabs, value=find, animated=False).classes("w-full")
        with panels, ui.tab_panel(compare):
            self.comparison = ComparisonTab(self.workspace)
        tabs.on_value_change(lambda event: self.comparison.offer() if event.value == "compare" else None)
        with panels, ui.tab_panel(find), ui.element("div").classes("columns"):
            with ui.element("div").classes("pane"):
                self.gallery = Gallery(self.session, self.url, self._choose)
            with ui.element("div").classes("pane middle"):
                self.editor = Editor(self.session, self.url, self._changed)
            with ui.element("div").classes("pane"):
                self.panel = Panel(self.workspace, self.session, self.url, self._open, self._changed)

        ui.keyboard(on_key=self._go_on, ignore=["input", "select", "textarea"])

    async def _go_on(self, event: KeyEventArguments) -> None:
        """Choose the next or the previous photograph with an arrow key."""
        if event.action.keydown and (event.key.arrow_left or event.key.arrow_right):
            await self.gallery.step(1 if event.key.arrow_right else -1)

    def url(self, position: int, side: int) -> str:
        """Return the address of a photograph."""
        return f"/photographs/{self.run}/{position}/{side}"

    async def start(self) -> None:
        """Show the first photograph."""
        await self._open(self.session.order()[0])
        await self.panel.refresh()

    async def _open(self, position: int) -> None:
        await self.gallery.choose(position)

    async def _choose(self, position: int) -> None:
        await self.editor.show(position)

    async def _changed(self) -> None:
        """Draw again what depends on marks and answers."""
        await self.editor.refresh()
        await self.gallery.refresh()
        await self.panel.refresh()
