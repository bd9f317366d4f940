"""The gradio page: layout and wiring. What happens is in ``handlers``, everything that is computed elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from clipseg_ws.web.controls import AS_METHOD, slider_values
from clipseg_ws.web.engine import Engine, methods, refiners, region_sources
from clipseg_ws.web.handlers import WAITING, Handlers
from clipseg_ws.web.names import EXAMPLE
from clipseg_ws.web.opening import FIRST_SCENE, PICK, opening_names, thumbnails_html
from clipseg_ws.web.render import class_colours, note_html, supports_html

THEME = gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"))
HEAVY: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
LIGHT: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_HERE = files("clipseg_ws.web")
_TO_ANSWER = (
    "() => document.querySelector('#cs-status').scrollIntoView("
    "{behavior: 'smooth', block: innerWidth < 700 ? 'start' : 'nearest'})"
)
_BOARD = (
    '<div class="cb"><div class="cb-bar" role="toolbar" aria-label="tools"></div><div class="cb-chips" role="toolbar" '
    'aria-label="class"></div><canvas width="1" height="1" aria-label="drawing board" hidden></canvas>'
    '<p class="cb-hint"></p></div>'
)


def style() -> str:
    """The page's CSS."""
    return (_HERE / "style.css").read_text("utf-8")


def build(engine: Engine, folder: Path) -> gr.Blocks:
    """The page.

    Args:
        engine: the model behind it. folder: where downloads are written; it must lie in gradio's temporary folder.
    """
    act = Handlers(engine, folder)
    page: gr.Blocks = gr.Blocks(title="clipseg_ws", analytics_enabled=False, delete_cache=(1800, 7200))
    with page:
        with gr.Column(elem_id="cs-head"):
            gr.Markdown("# clipseg_ws: try it")
            about = gr.Markdown(engine.describe(), elem_id="cs-model")
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                picture, board, names, hint, go = _question(page, act, engine)
                supports = _examples(act, names, board, hint)
                controls = _settings(engine)
            with gr.Column(scale=6, min_width=320):
                outputs, opacity = _answer()
        _wire(act, go, [picture, supports, names, board], controls, opacity, outputs, about)
    return page


def _board(tools: str, name: str, names: Sequence[str] = ()) -> gr.HTML:
    script = (_HERE / "canvas.js").read_text("utf-8")
    return gr.HTML(
        value="[]", html_template=_BOARD, js_on_load=script, apply_default_css=False, elem_id=name, tools=tools,
        picture="", width=1, height=1, serial="", names=list(names), colours=class_colours(names),
    )  # fmt: skip


def _html(value: str = "", **options: Any) -> gr.HTML:
    return gr.HTML(value, apply_default_css=False, **options)


def _question(page: gr.Blocks, act: Handlers, engine: Engine) -> tuple[Any, ...]:
    """Picture, drawing board, names, the line about them, and the button."""
    picture, first = gr.State(None, time_to_live=3600), opening_names(engine.model, engine.backbone.known_classes)
    with gr.Row(elem_classes="cs-line"):
        drop = gr.File(
            label="Drop a picture", file_types=["image"], height=72, elem_id="cs-file", elem_classes="cs-drop",
            scale=2, min_width=130,
        )  # fmt: skip
        seed = gr.Number(
            FIRST_SCENE, label="or a drawn scene", precision=0, minimum=0, elem_id="cs-seed", min_width=130
        )
        scene = gr.Button("Draw", elem_id="cs-scene", min_width=70, scale=0)
    photos = _html(html_template=thumbnails_html(), js_on_load=PICK, elem_id="cs-photos")
    with gr.Row(elem_classes="cs-line"):
        names = gr.Textbox(
            first, label="Class names (Enter segments)", placeholder=EXAMPLE, lines=1, max_lines=5,  # 1: Enter submits
            elem_id="cs-names", scale=5, min_width=200,
        )  # fmt: skip
        go = gr.Button("Segment", variant="primary", elem_id="cs-run", min_width=110, scale=1)
    hint = _html(elem_id="cs-hint")
    note = _html(elem_id="cs-note")
    board = _board("point,box,scribble", "cs-board", first.split("; "))
    shown = [picture, board, note]
    drop.upload(act.upload, drop, [*shown, drop], concurrency_limit=1, **LIGHT)
    scene.click(act.draw, [seed, names], [*shown, names], **LIGHT)
    photos.picked(act.photo, [photos, names], [*shown, names], **LIGHT)
    page.load(partial(act.open, engine.model), None, shown, **LIGHT)
    return picture, board, names, hint, go


def _examples(act: Handlers, names: gr.Textbox, board: gr.HTML, hint: gr.HTML) -> gr.State:
    """Pictures with masks that show what is meant."""
    supports = gr.State((), time_to_live=3600)
    picture, mask, number = gr.State(None, time_to_live=3600), gr.State(None, time_to_live=3600), gr.State(0)
    with gr.Accordion("Examples: show what is meant (optional)", open=False, elem_id="cs-examples"):
        view = _html(supports_html(()), elem_id="cs-supports")
        label = gr.Textbox(label="Name of the thing", placeholder="for example: mushroom", elem_id="cs-label")
        with gr.Row():
            drop = _drop("Its picture", "cs-example")
            file = _drop("Its mask (or paint it)", "cs-mask")
        draw = gr.Button("Draw an example of it", elem_id="cs-draw-example")
        note = _html(elem_id="cs-example-note")
        paint = _board("outline,brush,erase", "cs-paint")
        with gr.Row():
            add = gr.Button("Add the example", elem_id="cs-add", min_width=120)
            remove = gr.Button("Remove the last", elem_id="cs-remove", min_width=120)
    drop.upload(act.upload_example, drop, [picture, paint, note, drop, mask], concurrency_limit=1, **LIGHT)
    file.upload(act.upload_mask, [file, picture], [mask, paint, note, file], **LIGHT)
    draw.click(act.draw_example, [label, number], [picture, paint, note, mask, number], **LIGHT)
    add.click(
        act.add,
        [picture, paint, mask, label, supports, names],
        [supports, view, board, note, picture, mask, paint],
        **LIGHT,
    )
    remove.click(act.remove, [supports, names], [supports, view, board], **LIGHT)
    names.change(act.names, [names, supports], [board, hint], trigger_mode="always_last", **LIGHT)
    return supports


def _drop(label: str, elem_id: str) -> gr.File:
    """A small field that takes a picture's file."""
    return gr.File(label=label, file_types=["image"], height=76, elem_id=elem_id, elem_classes="cs-drop", min_width=130)


def _settings(engine: Engine) -> dict[str, Any]:
    """Controls with the defaults of method and model: the model, then the rest in the order of ``Controls``."""
    given = slider_values(engine.segmenter().variant("default"))
    with gr.Accordion("Settings", open=False, elem_id="cs-settings"):
        model = gr.Dropdown(list(engine.models), value=engine.model, label="Model (one at a time)", elem_id="cs-pick")
        with gr.Row():
            method = gr.Dropdown(methods(), value="default", label="Method", elem_id="cs-method", min_width=120)
            refine = gr.Dropdown(
                [AS_METHOD, *refiners()], value=AS_METHOD, label="Picture refiner", elem_id="cs-refine", min_width=120
            )
        sliders = {
            "presence_threshold": _slider(
                given["presence_threshold"], "Presence: score from which a name counts as there", 1.0
            ),
            "alpha": _slider(given["alpha"], "Background exponent: larger gives the classes more pixels", 8.0),
            "background_threshold": _slider(
                given["background_threshold"], "Least probability of a class; below it is background", 1.0
            ),
        }
        sliders["example_threshold"] = _slider(
            given["example_threshold"], "Examples: score from which a thing that is shown counts as there", 1.0
        )
        marked = gr.Checkbox(False, label="Only marked classes are in the picture", elem_id="cs-marked")
        stages = gr.Checkbox(True, label="Maps of every stage", elem_id="cs-stages")
        with gr.Row():
            regions = gr.Dropdown(
                [AS_METHOD, *region_sources()], value=AS_METHOD, label="Regions", elem_id="cs-regions", min_width=120
            )
            borders = gr.Checkbox(False, label="Borders of the regions", elem_id="cs-borders")
    first = {"model": model, "marked_only": marked, "method": method, "refine": refine}
    return {**first, **sliders, "stages": stages, "regions": regions, "borders": borders}


def _slider(given: tuple[float, bool], label: str, most: float) -> gr.Slider:
    least = 0.0 if most == 1.0 else 0.1
    name = "cs-slide-" + label.split()[0].strip(":").lower()
    return gr.Slider(least, most, value=given[0], step=0.01, visible=given[1], label=label, elem_id=name)


def _answer() -> tuple[list[Any], gr.Slider]:
    """Where the answer is shown, in the order of ``Handlers.run``, and the overlay's opacity."""
    status = _html(note_html(WAITING), elem_id="cs-status")
    with gr.Tabs():
        with gr.Tab("Overlay"):
            shown = _picture("cs-overlay")
            opacity = gr.Slider(0, 1, value=0.5, step=0.05, label="Opacity", elem_id="cs-opacity")
        with gr.Tab("Confidence"):
            certain = _picture("cs-confidence")
            _html('<p class="cs-note">How certain each pixel\'s label is: dark blue 0, yellow 1.</p>')
        with gr.Tab("Maps"):
            maps = _html(elem_id="cs-maps")
        with gr.Tab("The same call"):
            _html('<p class="cs-note">The files it reads are in the ZIP.</p>')
            python = gr.Code(language="python", label="Python", elem_id="cs-python", interactive=False, wrap_lines=True)
            shell = gr.Code(
                language="shell", label="Command line", elem_id="cs-shell", interactive=False, wrap_lines=True
            )
    rows = _html(elem_id="cs-table")
    with gr.Row(elem_classes="cs-line"):
        downloads = [
            gr.DownloadButton(title, interactive=False, elem_id=f"cs-{name}", min_width=100, size="sm")
            for title, name in (("Labels (PNG)", "png"), ("Record (JSON)", "json"), ("Everything (ZIP)", "zip"))
        ]
    given = gr.State(None, time_to_live=3600)
    return [status, shown, certain, maps, rows, python, shell, *downloads, given], opacity


def _picture(name: str) -> gr.Image:
    return gr.Image(type="pil", format="png", show_label=False, interactive=False, elem_id=name, buttons=["fullscreen"])


def _wire(
    act: Handlers, go: gr.Button, inputs: list[Any], controls: dict[str, Any], opacity: gr.Slider, outputs: list[Any],
    about: gr.Markdown,
) -> None:  # fmt: skip
    """``inputs``: picture, examples, names, board."""
    picture, supports, names, board = inputs
    model, *rest = controls.values()
    values = [picture, supports, model, opacity, names, board, *rest]
    status, shown, given = outputs[0], outputs[1], outputs[-1]
    busy: dict[str, Any] = {**HEAVY, "show_progress": "minimal", "show_progress_on": status}
    for asked in (go.click, names.submit):
        asked(act.run, values, outputs, **busy).then(None, js=_TO_ANSWER)
    picture.change(act.cleared, None, outputs, **LIGHT)
    board.marked(act.again, [given, *values], outputs, trigger_mode="always_last", **busy)
    sliders = [controls[key] for key in ("presence_threshold", "alpha", "background_threshold", "example_threshold")]
    for slider in sliders:
        slider.input(act.again, [given, *values], outputs, trigger_mode="always_last", **busy)
    for choice in ("refine", "regions"):
        controls[choice].input(act.again, [given, *values], outputs, **busy)
    for look in (opacity, controls["borders"]):
        seen = [given, opacity, controls["borders"]]
        look.input(act.opacity, seen, shown, trigger_mode="always_last", **LIGHT)
    controls["method"].input(act.method, [model, controls["method"]], sliders, **HEAVY).then(
        act.again, [given, *values], outputs, **busy
    )
    model.input(act.model, [model, controls["method"]], [model, about, *sliders], **HEAVY)
