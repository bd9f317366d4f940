"""What happens when something on the page is used: values in, gradio updates out. Errors become messages."""

from __future__ import annotations

import shutil
import sys
import traceback
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from clipseg_ws.structures import Support
from clipseg_ws.web.ask import Answer, answer, table
from clipseg_ws.web.controls import (
    MOST_SUPPORTS,
    Controls,
    drawn_picture,
    drawn_support,
    make_ask,
    make_support,
    slider_values,
    with_labels,
)
from clipseg_ws.web.engine import Engine
from clipseg_ws.web.names import comma_hint, parse_names, unknown_hint
from clipseg_ws.web.opening import is_offered, opening, photo_names, photo_picture, scene_names
from clipseg_ws.web.pictures import Picture, fitted_mask, load_picture
from clipseg_ws.web.recipe import command_call, python_call, write_files
from clipseg_ws.web.render import (
    BOARD,
    class_colours,
    confidence_view,
    data_uri,
    error_html,
    note_html,
    overlay_view,
    stages_html,
    status_html,
    supports_html,
    table_html,
    tinted,
    warning_html,
)

WAITING = "The answer comes here."
KEPT_RUNS = 40  # folders of downloads that are kept
Updates = tuple[Any, ...]


def message(error: Exception) -> str:
    """What a visitor is told; unexpected errors go to the terminal with their trace."""
    if isinstance(error, (ValueError, OSError, ImportError)):
        return str(error)
    traceback.print_exception(error, file=sys.stderr)
    return f"Something went wrong ({type(error).__name__}); the terminal that runs the page says more."


class Handlers:
    """Bound to one engine and a folder for downloads, which gradio may serve."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self._runs: deque[Path] = deque()

    # ---- pictures: each gives (picture, board, note) -------------------------------------------------------------

    def open(self, model: str) -> Updates:
        """What the page opens with, for the model that it opened with."""
        return _placed(opening(model))

    def draw(self, seed: float | None, names: str) -> Updates:
        """A drawn scene as the picture, and its names where nobody typed others."""
        try:
            return *_placed(drawn_picture(seed)[0]), self._renewed(names, scene_names(self._known))
        except Exception as error:
            return gr.skip(), gr.skip(), error_html(message(error)), gr.skip()

    def photo(self, name: str, names: str) -> Updates:
        """A photo of the package as the picture, and its names where nobody typed others."""
        try:
            return *_placed(photo_picture(name)), self._renewed(names, photo_names(name, self._known))
        except Exception as error:
            return gr.skip(), gr.skip(), error_html(message(error)), gr.skip()

    @property
    def _known(self) -> Sequence[str]:
        return self.engine.backbone.known_classes

    def _renewed(self, names: str, fresh: str) -> Any:
        """``fresh`` where the names box holds what the page put there; what was typed stays."""
        return fresh if is_offered(names, self._known) else gr.skip()

    def upload(self, path: str | None) -> Updates:
        """A dropped file as the picture, and an empty drop area (the file itself is deleted at once)."""
        if not path:
            return (gr.skip(),) * 4
        try:
            return *_placed(load_picture(path)), None
        except Exception as error:
            return gr.skip(), gr.skip(), error_html(message(error)), None
        finally:
            Path(path).unlink(missing_ok=True)

    def draw_example(self, label: str, number: int) -> Updates:
        """A drawn example: (picture, board, note, mask, number)."""
        try:
            picture, mask = drawn_support(label, number)
            return *_placed(picture, mask), mask, number + 1
        except Exception as error:
            return gr.skip(), gr.skip(), error_html(message(error)), gr.skip(), gr.skip()

    def upload_example(self, path: str | None) -> Updates:
        """A dropped example picture: (picture, board, note, drop area, mask)."""
        updates = self.upload(path)
        return *updates, None if isinstance(updates[0], Picture) else gr.skip()

    def upload_mask(self, path: str | None, picture: Picture | None) -> Updates:
        """A mask file for the example: (mask, board, note, drop area)."""
        if not path:
            return (gr.skip(),) * 4
        try:
            if picture is None:
                raise ValueError("drop the example's picture first, then its mask")
            mask = fitted_mask(path, picture)
            said = note_html(f"{Path(path).name}: {(mask == 1).mean():.0%} of the example, press Add")
            return mask, _placed(picture, mask)[1], said, None
        except Exception as error:
            text = message(error).replace(repr(path), repr(Path(path).name))
            return gr.skip(), gr.skip(), error_html(text), None
        finally:
            Path(path).unlink(missing_ok=True)

    # ---- examples ------------------------------------------------------------------------------------------------

    def add(
        self, picture: Picture | None, drawing: str, mask: Any, label: str, supports: Sequence[Support], names: str
    ) -> Updates:
        """One more example: (supports, their view, board of the picture, note, and picture, mask and board emptied)."""
        try:
            if len(supports) >= MOST_SUPPORTS:
                raise ValueError(f"{len(supports)} examples are the most this page takes; remove one first")
            supports = (*supports, make_support(picture, drawing, mask, label))
            empty = gr.HTML(value="[]", picture="", serial=uuid.uuid4().hex)
            said = note_html(f"{label} added")
            return supports, supports_html(supports), self.board(names, supports), said, None, None, empty
        except Exception as error:
            return gr.skip(), gr.skip(), gr.skip(), error_html(message(error)), *(gr.skip(),) * 3

    def remove(self, supports: Sequence[Support], names: str) -> Updates:
        """The last example away: (supports, their view, board of the picture)."""
        supports = tuple(supports)[:-1]
        return supports, supports_html(supports), self.board(names, supports)

    # ---- controls ------------------------------------------------------------------------------------------------

    def board(self, names: str, supports: Sequence[Support]) -> Any:
        """The board with a button for every class."""
        try:
            known = list(with_labels(*parse_names(names), supports)[1])
        except (ValueError, OSError):  # said when the question is asked
            known = []
        return gr.HTML(names=known, colours=class_colours(known))

    def names(self, names: str, supports: Sequence[Support]) -> Updates:
        """(board, hints about commas and about names that the model does not know)."""
        return self.board(names, supports), note_html(comma_hint(names)) + warning_html(
            unknown_hint(names, self.engine.backbone)
        )

    def method(self, model: str, method: str) -> Updates:
        """The method's own values on the sliders, those that it does not look at hidden."""
        values = slider_values(self.engine.segmenter(model).variant(method))
        return tuple(gr.Slider(value=value, visible=used) for value, used in values.values())

    def model(self, model: str, method: str) -> Updates:
        """(model, its description, the sliders); a model that cannot be loaded leaves the one that was there."""
        problem = ""
        try:
            self.engine.segmenter(model)
        except Exception as error:
            problem = f"\n\n**`{model}` was not loaded:** {message(error)}"
        loaded = self.engine.model
        return loaded, self.engine.describe() + problem, *self.method(loaded, method)

    def cleared(self) -> Updates:
        """What ``run`` shows, emptied: another picture came, so the old answer and its error say nothing any more."""
        idle = (gr.DownloadButton(value=None, interactive=False) for _ in range(3))
        return note_html(WAITING), None, None, "", "", "", "", *idle, None

    # ---- the answer ----------------------------------------------------------------------------------------------

    def run(
        self, picture: Picture | None, supports: Sequence[Support], model: str, opacity: float, *values: Any
    ) -> Updates:
        """(status, overlay, confidence, maps, table, Python, command, PNG, JSON, ZIP, answer)."""
        try:
            segmenter = self.engine.segmenter(model)
            before = segmenter.encoder_runs
            given = answer(segmenter, make_ask(segmenter, picture, supports, controls := Controls(*values)))
            runs = segmenter.encoder_runs - before
            found = write_files(self._folder(), given, self.engine.model, self.engine.options, opacity)
            calls = (call(given, self.engine.model, self.engine.options) for call in (python_call, command_call))
            return (
                status_html(given, runs), overlay_view(given.result, opacity, controls.borders),
                confidence_view(given.result), stages_html(given), table_html(table(given)), *calls,
                *(gr.DownloadButton(value=str(path), interactive=True)
                  for path in (found.labels, found.record, found.everything)),
                replace(given, stages=()),
            )  # fmt: skip
        except Exception as error:
            return error_html(message(error)), *(gr.skip(),) * 10

    def again(self, before: Answer | None, *values: Any) -> Updates:
        """``run`` after a control was moved; nothing before there was a first answer."""
        return (gr.skip(),) * 11 if before is None else self.run(*values)

    def opacity(self, given: Answer | None, opacity: float, borders: bool) -> Any:
        """The overlay once more."""
        return gr.skip() if given is None else overlay_view(given.result, opacity, borders)

    def _folder(self) -> Path:
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir(parents=True)
        self._runs.append(folder)
        while len(self._runs) > KEPT_RUNS:
            shutil.rmtree(self._runs.popleft(), ignore_errors=True)
        return folder


def _placed(picture: Picture, mask: Any = None) -> Updates:
    """(picture, a board that shows it with its mask painted in, a line about it)."""
    width, height = picture.image.size
    shown = picture.image if mask is None else tinted(picture.image, mask)
    board = gr.HTML(value="[]", picture=data_uri(shown, BOARD), width=width, height=height, serial=uuid.uuid4().hex)
    return picture, board, note_html(picture.note)
