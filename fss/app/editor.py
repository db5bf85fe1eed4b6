"""The photograph in the middle of the page: mark the object in it, and correct its mask."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import numpy as np
from nicegui import run, ui

from fss.app.drawing import Mark, Tool
from fss.app.layers import COLOURS, css_colour, gesture_layer, hint_layer, image_layer, mask_uri, shown_size
from fss.app.session import Kind, Session
from fss.visualize import IGNORED

SIDE = 1280
"""Long side of the photograph on the page, in pixels."""
_TOOLS = {"box": "Box", "click": "Click", "stroke": "Stroke", "paint": "Paint", "erase": "Erase"}
_HELP = {
    "box": "Drag a box around the object.",
    "click": "Click on the object. Shift and click is for what lies beside it.",
    "stroke": "Draw a line over the object. Its mask is made from the line.",
    "paint": "Paint the pixels that the mask lacks.",
    "erase": "Erase the pixels that do not belong to the object.",
}
_HELP_CORRECTION = {
    "box": "Drag a box around what the mask lacks.",
    "click": "Click on what the mask lacks. Shift and click takes away what is there.",
    "stroke": "Draw a line over what the mask lacks.",
}
_KINDS = {"object": "The object", "other": "Not this"}
# Moves of the mouse without a pressed button are not sent to the server.
_PRESSED_ONLY = "(event) => { if (event.mouse_event_type !== 'mousemove' || event.buttons) emit(event); }"
_LEAST_BOX = 4.0  # pixels on the page; a shorter drag is no box


class Editor:
    """Shows one photograph of a session and turns gestures into marks."""

    def __init__(
        self, session: Session, url: Callable[[int, int], str], on_change: Callable[[], Awaitable[None]]
    ) -> None:
        """Build the editor at this place of the page.

        Args:
            session: the work of the tab.
            url: returns the address of a photograph of this position and side.
            on_change: called when marks have changed.
        """
        self.session, self.url, self.on_change = session, url, on_change
        self.position: int | None = None
        self.gesture: list[tuple[float, float]] = []
        self.beside = False
        self.scale = 1.0
        self.turn = asyncio.Lock()
        self._build()

    @property
    def kind(self) -> Kind:
        """What marks mean."""
        return cast(Kind, self.kind_toggle.value)

    @property
    def tool(self) -> Tool:
        """The chosen tool, or ``beside`` for a click with Shift."""
        return "beside" if self.tool_toggle.value == "click" and self.beside else cast(Tool, self.tool_toggle.value)

    def _build(self) -> None:
        with ui.row().classes("w-full items-center gap-3 no-wrap"):
            self.kind_toggle = ui.toggle(_KINDS, value="object", on_change=self._explain).props("no-caps unelevated")
            self.tool_toggle = ui.toggle(_TOOLS, value="box", on_change=self._explain).props("no-caps unelevated")
            ui.space()
            self.undo_button = ui.button("Undo", on_click=self._undo)
            self.clear_button = ui.button("Clear", on_click=self._clear)
        with ui.row().classes("w-full items-center gap-3 no-wrap tool-help"):
            self.help = ui.label().classes("help grow")
            with ui.row().classes("items-center gap-2 no-wrap") as self.brush:
                ui.label("Width of the brush").classes("text-sm whitespace-nowrap")
                self.width = ui.slider(min=4, max=120, value=24).classes("w-28")
        with ui.element("div").classes("canvas") as self.canvas:
            events = ["mousedown", "mousemove", "mouseup", "mouseleave"]
            self.image = ui.interactive_image("", events=events, sanitize=False).classes("w-full cursor-crosshair")
            self.image.on("mouse", self._on_mouse, js_handler=_PRESSED_ONLY)
            self.layer = self.image.add_layer()
        with ui.row().classes("w-full items-center gap-2 no-wrap"):
            self.caption = ui.label().classes("text-sm grow min-w-0 break-words")
            self.example_button = ui.button("Add as example", icon="add", on_click=self._add_example)
            self.reject_button = ui.button("Not in this photograph", icon="block", on_click=self._reject)
        for button in (self.undo_button, self.clear_button):
            button.props("flat no-caps dense padding='4px 8px'")
        for button in (self.example_button, self.reject_button):
            button.props("outline no-caps dense padding='2px 10px'").classes("shrink-0")
        self._explain()

    async def show(self, position: int) -> None:
        """Show another photograph."""
        self.position, self.gesture = position, []
        await self.refresh()

    async def refresh(self) -> None:
        """Draw the photograph with its masks again."""
        position, session = self.position, self.session
        if position is None:
            return
        async with self.turn:
            try:
                drawn = await run.io_bound(self._draw, position)
            except ValueError as error:
                self.caption.text = f"{session.photographs[position].name} cannot be used: {error}"
                self.image.set_source("")
                self.layer.set_content("")
                for button in (self.example_button, self.reject_button):
                    button.set_visibility(False)
                return
            if drawn is None or position != self.position:
                return
            (width, height), self.scale, content = drawn
            self.canvas.style(f"--ratio: {width / height:.4f}")
            self.image.set_source(self.url(position, SIDE))
            self.image.set_content("")
            self.layer.set_content(content)
            self._describe()

    def _draw(self, position: int) -> tuple[tuple[int, int], float, str]:
        """Return the shown size, its scale and the layer of masks and hints; runs in a thread."""
        shape = self.session.photographs.rgb(position).shape
        width, height = shown_size(shape, SIDE)
        scale, pieces = width / shape[1], []
        for kind in COLOURS:
            mask = self.session.mask(position, kind)
            if mask is not None and mask.any():
                pieces.append(image_layer(mask_uri(mask, SIDE, COLOURS[kind]), width, height))
            pieces.append(hint_layer(self.session.drawing(position, kind), kind, scale))
        ignored = self.session.ignored(position)
        if ignored is not None and ignored.any():
            pieces.insert(0, image_layer(mask_uri(ignored.astype(np.uint8), SIDE, IGNORED), width, height))
        return (width, height), scale, "".join(pieces)

    def _describe(self) -> None:
        """Say what is known about the photograph, and offer what can be done."""
        assert self.position is not None
        state, answer = self.session.state(self.position), self.session.answers.get(self.position)
        drawing = self.session.drawing(self.position, "object")
        words = {
            "example": "example. If its mask is wrong, correct it before the search",
            "corrected": "corrected by hand",
            "open": "nothing is marked yet",
            "unusable": "cannot be used",
            "opened": "as in the mask set",
            "empty": "empty in the mask set",
        }.get(state, state)
        if state in ("found", "not found") and answer is not None:
            rate = f"confidence {answer.confidence:.0%}" if answer.found else f"presence {answer.presence:.0%}"
            words = f"{state}, {rate}" + (
                "; this mask is probably wrong" if self.session.doubtful(self.position) else ""
            )
        if answer is not None and answer.ignored:
            words += "; yellow pixels are ignored"
        notes = f" Note: {' '.join(drawing.notes)}" if drawing and drawing.notes else ""
        self.caption.text = f"{self.session.photographs[self.position].name}: {words}.{notes}"
        for button in (self.example_button, self.reject_button):
            button.set_visibility(state in ("found", "opened", "corrected"))
        self._help()
        marked = self.session.drawing(self.position, self.kind) is not None
        self.undo_button.set_enabled(marked)
        self.clear_button.set_enabled(marked)

    def _explain(self) -> None:
        self._help()
        if self.position is not None:
            self._describe()
        self.brush.set_visibility(self.tool_toggle.value in ("stroke", "paint", "erase"))

    def _help(self) -> None:
        """Say what the tool does: with the object, with its mask if there is one, or with what is not meant."""
        tool, session = self.tool_toggle.value, self.session
        masked = ("example", "found", "opened", "corrected")
        corrects = self.position is not None and session.state(self.position) in masked
        words = _HELP_CORRECTION if corrects and self.kind == "object" else {}
        meaning = "" if self.kind == "object" else "Mark an object that is not meant, though it looks alike. "
        self.help.text = meaning + words.get(tool, _HELP[tool])
        self.help.style(f"border-color: {css_colour(self.kind)}")

    async def _on_mouse(self, event: Any) -> None:
        """Follow a gesture from press to release; leaving the photograph ends it, too."""
        values = event.args
        kind, point = values["mouse_event_type"], (float(values["image_x"]), float(values["image_y"]))
        if kind == "mousedown" and values["button"] == 0 and self.position is not None:
            self.gesture, self.beside = [point], bool(values["shiftKey"])
        elif not self.gesture:
            return
        elif kind != "mousedown":
            self.gesture.append(point)
        if kind in ("mouseup", "mouseleave"):
            await self._finish()
        else:
            self.image.set_content(gesture_layer(self.tool, self.gesture, self.width.value, self.kind))

    async def _finish(self) -> None:
        points, self.gesture = self.gesture, []
        self.image.set_content("")
        if self.tool == "box":
            points = [points[0], points[-1]]
            if min(abs(a - b) for a, b in zip(*points, strict=True)) < _LEAST_BOX:
                return
        elif self.tool in ("click", "beside"):
            points = points[:1]
        mark = Mark(
            tool=self.tool,
            points=[(x / self.scale, y / self.scale) for x, y in points],
            width=self.width.value / self.scale,
        )
        await self._change(self.session.mark, self.position, self.kind, mark)

    async def _undo(self) -> None:
        await self._change(self.session.undo, self.position, self.kind)

    async def _clear(self) -> None:
        await self._change(self.session.clear, self.position, self.kind)

    async def _add_example(self) -> None:
        await self._change(self.session.add_example, self.position)

    async def _reject(self) -> None:
        await self._change(self.session.reject, self.position)

    async def _change(self, change: Callable[..., None], *arguments: Any) -> None:
        """Change the session in a thread, tell a mistake, and draw everything again."""
        try:
            async with self.turn:
                await run.io_bound(change, *arguments)
        except ValueError as error:
            ui.notify(str(error), type="warning", multi_line=True, timeout=8000)
        await self.refresh()
        await self.on_change()
