"""The page in a real browser, and what its server gives out; skips without gradio, playwright or a Chromium."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

import browser
import numpy as np
import pytest
from photo_weights import needs_photo
from PIL import Image

from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.embedded.photos import PHOTOS
from clipseg_ws.output.palette import safe_palette
from clipseg_ws.web.controls import drawn_picture

pytest.importorskip("gradio", reason="gradio is not installed (extra demo)")

SEED = 9_000_036  # house, tree, flower on sand
OTHER_SEED = 9_000_037  # the page remembers the tokens of what it has seen: tests that count runs draw their own
NAMES = "house; tree; flower; car"


@pytest.fixture(scope="module")
def site():
    """The page, served for the tests of this file."""
    from clipseg_ws.web.server import running

    with running("nano", dtype="float32", offline=True) as page:
        yield page


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium of the system."""
    with browser.chromium() as found:
        yield found


@pytest.fixture
def visit(site, chromium):
    """``visit(width, height)`` -> an open page; at the end no request may have gone elsewhere and no script failed."""
    opened, elsewhere, errors = [], [], []

    def watch(request):
        if not request.url.startswith((site.local_url, "data:", "blob:")):
            elsewhere.append(request.url)

    def open_page(width=1280, height=800, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        opened.append(context)
        view = context.new_page()
        view.set_default_timeout(60_000)
        view.on("request", watch)
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.goto(site.local_url)
        view.wait_for_selector("#cs-board canvas:visible")
        return view

    yield open_page
    for context in opened:
        context.close()
    assert elsewhere == [] and errors == []


def serial(view) -> str:
    """Which answer is shown."""
    return view.evaluate("document.querySelector('#cs-status .cs-status')?.dataset.serial || ''")


def after(view, act) -> int:
    """Do something that asks for an answer, wait for it, and say how often the backbone ran."""
    before = serial(view)
    act()
    view.wait_for_function(
        "old => { const s = document.querySelector('#cs-status .cs-status'); return s && s.dataset.serial !== old }",
        arg=before,
    )
    return int(view.evaluate("document.querySelector('#cs-status .cs-status').dataset.runs"))


def fetch_image(view, selector: str) -> np.ndarray:
    view.wait_for_selector(f"{selector} img")
    answer = view.request.get(view.get_attribute(f"{selector} img", "src"))
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"))


def download(view, selector: str, folder: Path) -> Path:
    with view.expect_download() as waiting:
        view.click(selector)
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def spot(view, x: float, y: float, canvas: str = "#cs-board canvas") -> dict[str, float]:
    """Where a pixel of the picture lies on the canvas, for click(position=)."""
    return view.evaluate(
        "([q, x, y]) => { const c = document.querySelector(q), b = c.getBoundingClientRect();"
        "return {x: x * b.width / c.width, y: y * b.height / c.height} }", [canvas, x, y],
    )  # fmt: skip


def enter(view, slider: str, value: str) -> None:
    """Type a number into the box of a slider."""
    view.fill(f"{slider} input[type=number]", value)
    view.locator(f"{slider} input[type=number]").blur()


def draw_scene(view, seed: int) -> None:
    view.fill("#cs-seed input", str(seed))
    view.click("#cs-scene")
    view.wait_for_function("t => document.querySelector('#cs-note').innerText.includes(t)", arg=str(seed))


def test_names_points_and_downloads(visit, tmp_path):
    view = visit()
    assert "photos are out of its world" in view.inner_text("#cs-model")
    draw_scene(view, SEED)
    view.fill("#cs-names textarea", NAMES)
    assert after(view, lambda: view.click("#cs-run")) == 1

    table = view.inner_text("#cs-table")
    assert re.search(r"house\s+\d+\.\d%\s+0\.\d+\s+yes\s+score", table), table
    assert re.search(r"car\s+0\.0%\s+0\.\d+\s+no\s+score 0\.\d+ is below the threshold 0\.25", table), table
    scene = np.asarray(drawn_picture(SEED)[0].image).astype(int)
    shown = fetch_image(view, "#cs-overlay")
    left = (shown.shape[1] - scene.shape[1]) // 2  # the legend may be wider
    shown = shown[: scene.shape[0], left : left + scene.shape[1]].astype(int)
    halves = [np.abs(shown - (scene + safe_palette()[label]) / 2).max(2) <= 1 for label in range(5)]
    assert halves[1].mean() > 0.01 and halves[2].mean() > 0.01 and halves[3].mean() > 0.005  # house, tree, flower
    assert (np.abs(shown - scene).max(2) == 0).mean() > 0.4  # the background is left as it is

    view.click("button[data-name=car]")
    assert after(view, lambda: view.click("#cs-board canvas", position=spot(view, 20, 20))) == 0
    assert after(view, lambda: view.click("#cs-board canvas", position=spot(view, 500, 24))) == 0
    assert "you marked it" in view.inner_text("#cs-table")
    labels = np.asarray(Image.open(download(view, "#cs-png", tmp_path)))
    assert labels.shape == (384, 512) and labels[20, 20] == 4 and labels[24, 500] == 4
    record = json.loads(download(view, "#cs-json", tmp_path).read_text())
    assert record["names"] == ["house", "tree", "flower", "car"] and record["setting"] == "weak"
    with zipfile.ZipFile(download(view, "#cs-zip", tmp_path)) as archive:
        assert {"run.py", "run.sh", "picture.png", "marks/picture.json"} <= set(archive.namelist())

    view.click("button[role=tab]:has-text('Maps')")
    assert view.locator("#cs-maps figure").count() >= 9
    view.click("button[role=tab]:has-text('The same call')")
    view.wait_for_selector("#cs-python .cm-content")
    assert "weak=WeakLabels(tags=" in view.inner_text("#cs-python .cm-content")
    assert "clipseg-ws pseudo picture.png --marks" in view.inner_text("#cs-shell .cm-content").replace("\n", "")


def test_photos_of_the_package(visit):
    view = visit()
    assert view.input_value("#cs-names textarea") == "; ".join(KINDS)  # nano opens with a scene and with what it knows
    assert view.locator("#cs-photos button").count() == len(PHOTOS)
    for name in ("coffee", "astronaut"):
        view.click(f"#cs-photos button[data-photo={name}]")
        view.wait_for_selector(f"#cs-note:has-text('{name}.jpg')")
        width, height = PHOTOS[name].open().size
        view.wait_for_function(f"document.querySelector('#cs-board canvas').width === {width}")
        assert view.evaluate("document.querySelector('#cs-board canvas').height") == height
    view.fill("#cs-names textarea", "person")
    after(view, lambda: view.click("#cs-run"))
    assert re.search(r"person\s+\d+\.\d%", view.inner_text("#cs-table"))
    view.click("#cs-photos button[data-photo=chelsea]")
    view.wait_for_selector("#cs-note:has-text('chelsea.jpg')")
    assert view.input_value("#cs-names textarea") == "person"  # what was typed stays


@needs_photo
def test_the_page_opens_with_a_photo(chromium):
    from clipseg_ws.web.server import running

    with running(dtype="float32", offline=True) as page:
        view = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
        view.goto(page.local_url)
        view.wait_for_selector("#cs-board canvas:visible")
        view.wait_for_selector("#cs-note:has-text('chelsea.jpg')")
        assert view.input_value("#cs-names textarea") == "cat" and "Model photo" in view.inner_text("#cs-model")
        after(view, lambda: view.click("#cs-run"))
        assert re.search(r"cat\s+\d\d\.\d%\s+\d\.\d+\s+yes", view.inner_text("#cs-table"))
        view.context.close()


def test_settings_boxes_and_scribbles(visit):
    view = visit()
    view.click("#cs-settings button >> nth=0")  # gradio mounts the sliders now and sets them once more: type later
    draw_scene(view, OTHER_SEED)
    view.fill("#cs-names textarea", NAMES)
    after(view, lambda: view.click("#cs-run"))
    view.wait_for_selector("#cs-overlay img")
    source = view.get_attribute("#cs-overlay img", "src")
    enter(view, "#cs-opacity", "1")
    view.wait_for_function("old => document.querySelector('#cs-overlay img').src !== old", arg=source)

    assert after(view, lambda: enter(view, "#cs-slide-presence", "0.99")) == 0
    assert "below the threshold 0.99" in view.inner_text("#cs-table")

    def stroke(tool, name, *corners):
        view.click(f"#cs-board .cb-bar button:has-text('{tool}')")
        view.click(f"button[data-name={name}]")
        view.locator("#cs-board canvas").scroll_into_view_if_needed()
        box = view.locator("#cs-board canvas").bounding_box()
        places = [spot(view, x, y) for x, y in corners]
        view.mouse.move(box["x"] + places[0]["x"], box["y"] + places[0]["y"])
        view.mouse.down()
        for place in places[1:]:
            view.mouse.move(box["x"] + place["x"], box["y"] + place["y"], steps=4)
        view.mouse.up()

    assert after(view, lambda: stroke("box", "car", (10, 10), (90, 60))) == 0
    assert after(view, lambda: stroke("scribble", "background", (200, 20), (300, 40))) == 0
    value = view.evaluate("document.querySelector('#cs-table').innerText")
    assert re.search(r"car\s+\d\.\d%.*you marked it", value), value
    assert after(view, lambda: view.click("#cs-board .cb-bar button:has-text('undo')")) == 0


def test_examples_are_painted_drawn_and_uploaded(visit, tmp_path):
    view = visit()
    draw_scene(view, 9_000_075)
    view.fill("#cs-names textarea", "")
    view.click("#cs-examples button >> nth=0")
    view.fill("#cs-label textarea, #cs-label input", "butterfly")
    view.click("#cs-draw-example")
    view.wait_for_selector("#cs-paint canvas:visible")
    view.click("#cs-add")
    view.wait_for_selector("#cs-supports figcaption:has-text('1: butterfly')")
    view.wait_for_selector("#cs-board button[data-name=butterfly]")

    picture, scene = drawn_picture(9_000_044)
    picture.image.save(tmp_path / "shown.png")
    label = int(np.unique(scene.labels)[1])
    Image.fromarray((scene.labels == label).astype(np.uint8) * 255).save(tmp_path / "mask.png")
    view.fill("#cs-label textarea, #cs-label input", KINDS[label - 1])
    view.set_input_files("#cs-example input", tmp_path / "shown.png")
    view.wait_for_selector("#cs-example-note:has-text('shown.png')")
    view.set_input_files("#cs-mask input", tmp_path / "mask.png")
    view.wait_for_selector("#cs-example-note:has-text('of the example')")
    view.click("#cs-add")
    view.wait_for_selector(f"#cs-supports figcaption:has-text('2: {KINDS[label - 1]}')")

    view.fill("#cs-label textarea, #cs-label input", "blob")
    view.set_input_files("#cs-example input", tmp_path / "shown.png")
    view.wait_for_selector("#cs-example-note:has-text('512 × 384')")
    view.locator("#cs-paint canvas").scroll_into_view_if_needed()
    box = view.locator("#cs-paint canvas").bounding_box()
    for step, (x, y) in enumerate([(0.2, 0.2), (0.7, 0.2), (0.7, 0.8), (0.2, 0.8)]):
        view.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
        if step == 0:
            view.mouse.down()
    view.mouse.up()
    view.click("#cs-add")
    view.wait_for_selector("#cs-supports figcaption:has-text('3: blob')")
    view.click("#cs-remove")
    view.wait_for_selector("#cs-supports figcaption:has-text('3: blob')", state="detached")
    after(view, lambda: view.click("#cs-run"))
    assert "with examples" in view.inner_text("#cs-status")
    assert re.search(r"butterfly\s+\d+\.\d%\s+[01]\.\d+\s+yes", view.inner_text("#cs-table"))


def huge_png(side: int = 30_000) -> bytes:
    """A PNG whose header promises side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_unknown_names_enter_and_a_new_picture(visit):
    view = visit()
    draw_scene(view, SEED)
    view.fill("#cs-names textarea", "house; stethoscopes")
    said = "nano knows 12 things; 'stethoscopes' is not among them"
    view.wait_for_selector(f"#cs-hint .cs-warning:has-text({json.dumps(said)})")
    after(view, lambda: view.press("#cs-names textarea", "Enter"))
    assert said in view.inner_text("#cs-status .cs-warning")
    assert view.input_value("#cs-names textarea") == "house; stethoscopes"  # Enter wrote no line break
    fetch_image(view, "#cs-overlay")

    draw_scene(view, SEED + 1)
    view.wait_for_selector("#cs-status:has-text('The answer comes here')")
    view.wait_for_selector("#cs-overlay img", state="detached")
    assert view.locator("#cs-status .cs-warning").count() == 0 and view.inner_text("#cs-table").strip() == ""
    assert view.locator("button#cs-png:not([disabled])").count() == 0
    view.fill("#cs-names textarea", "/etc/passwd")
    view.press("#cs-names textarea", "Enter")
    view.wait_for_selector("#cs-status .cs-error")
    draw_scene(view, SEED)
    view.wait_for_selector("#cs-status .cs-error", state="detached")
    view.fill("#cs-names textarea", "house")
    assert after(view, lambda: view.press("#cs-names textarea", "Enter")) >= 0
    assert view.locator(".cs-warning").count() == 0


def test_unusable_input_gives_messages(visit, tmp_path):
    view = visit()
    for name, content, message in (
        ("text.png", b"this is no picture", "cannot read 'text.png': empty, or not an image"),
        ("huge.png", huge_png(), "30000 x 30000 pixels are more than"),
    ):
        view.set_input_files("#cs-file input", {"name": name, "mimeType": "image/png", "buffer": content})
        view.wait_for_selector(f"#cs-note .cs-error:has-text({json.dumps(message)})")
        assert "/tmp" not in view.inner_text("#cs-note")
    with open(tmp_path / "heavy.png", "wb") as file:
        file.truncate(30_000_001)
    view.set_input_files("#cs-file input", tmp_path / "heavy.png")
    view.wait_for_selector("text=exceed the maximum allowed size")
    view.fill("#cs-names textarea", " ; ")
    view.click("#cs-run")
    view.wait_for_selector("#cs-status .cs-error:has-text('no class names')")
    view.fill("#cs-names textarea", "/etc/passwd")
    view.click("#cs-run")
    view.wait_for_selector("#cs-status .cs-error:has-text('looks like a file')")
    assert "Traceback" not in view.inner_text("body")


def test_a_photo_on_a_phone(visit, tmp_path):
    view = visit(390, 844, is_mobile=True, has_touch=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(34853)[1] = "N"
    Image.effect_noise((300, 200), 90).convert("RGB").save(tmp_path / "photo.jpg", exif=exif)
    view.set_input_files("#cs-file input", tmp_path / "photo.jpg")
    view.wait_for_selector("#cs-note:has-text('photo.jpg, 200 × 300 pixels')")
    view.fill("#cs-names textarea", "cat; dog")
    after(view, lambda: view.tap("#cs-run"))
    with zipfile.ZipFile(download(view, "#cs-zip", tmp_path)) as archive:
        for name in (n for n in archive.namelist() if n.endswith(".png")):
            with Image.open(io.BytesIO(archive.read(name))) as image:
                image.load()
                assert not image.getexif() and "exif" not in image.info, name
    assert view.evaluate("document.querySelector('.gradio-container').getBoundingClientRect().width") <= 390


def get(site, path: str):
    return urllib.request.urlopen(site.local_url + path, timeout=20)


@pytest.mark.parametrize(
    "path",
    [
        "file=/etc/passwd",
        f"file={__file__}",
        "file=pyproject.toml",
        "file=../../../etc/passwd",
        "file=https://example.org/a.png",
        "proxy=https://example.org/a.png",
    ],
)
def test_other_files_are_not_served(site, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(site, f"gradio_api/{path}")
    assert refused.value.code in (403, 404)


@pytest.mark.parametrize("path", ["https://example.org/a.png", "HTTP://10.0.0.1/", "/etc/passwd"])
def test_other_files_are_not_taken_as_uploads(site, path, capfd):
    upload = next(i for i, fn in site.fns.items() if fn.name == "upload")
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = json.dumps({"data": [file], "fn_index": upload, "session_hash": "visitor"}).encode()
    request = urllib.request.Request(
        site.local_url + "gradio_api/queue/join", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20):
            pass
        with get(site, "gradio_api/queue/data?session_hash=visitor") as answer:
            assert b'"success":false' in answer.read()
        assert path == "/etc/passwd"
        capfd.readouterr()  # gradio prints its own trace to the terminal
    except urllib.error.HTTPError as refused:
        assert refused.code == 403 and path != "/etc/passwd"


def test_the_page_loads_from_nowhere_else(site):
    with get(site, "") as answer:
        html, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert "og:" not in html and "twitter:" not in html
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)["']|url\(([^)]+)\)|@import\s+([^;]+)""", html)
    assert loaded and not [found for found in loaded if re.match(r"['\"]?(https?:)?//", "".join(found))]


def test_settings_of_the_server(site):
    config = site.config
    assert site.server_name == "127.0.0.1" and not site.share and site.share_url is None
    assert site.analytics_enabled is False and site.allowed_paths == [] and config["enable_queue"]
    assert site.max_file_size == 30_000_000 and site._queue.max_size == 20
    assert {fn.concurrency_limit for fn in site.fns.values()} <= {1, None, "default"}
    assert all(fn.api_visibility == "private" for fn in site.fns.values() if fn.fn is not None)


def test_share_contradicts_offline():
    from clipseg_ws.web.server import running

    with pytest.raises(ValueError, match="--share"), running(share=True, offline=True):
        pass


def test_the_temporary_folder_goes_away(monkeypatch):
    from clipseg_ws.web import server

    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/etc")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    seen = {}

    def launch(folder, *rest):
        seen["folder"], seen["allowed"] = folder, os.environ.get("GRADIO_ALLOWED_PATHS")
        assert oct(folder.stat().st_mode)[-3:] == "700" and os.environ["GRADIO_TEMP_DIR"] == str(folder)
        raise OSError("port taken")

    monkeypatch.setattr(server, "_launch", launch)
    with pytest.raises(OSError, match="port taken"), server.running():
        pass
    assert not seen["folder"].exists() and seen["allowed"] is None
    assert os.environ["GRADIO_ALLOWED_PATHS"] == "/etc" and "GRADIO_TEMP_DIR" not in os.environ
