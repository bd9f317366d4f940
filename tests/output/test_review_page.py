"""The review page in a browser: what is doubtful comes first, a person accepts and rejects, and exports the list."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from browser import chromium
from PIL import Image

from clipseg_ws.output.doubt import DOUBTS, edges
from clipseg_ws.output.formats.png import write_label_png
from clipseg_ws.output.review import Reviewed, certainty, write_review
from clipseg_ws.pictures.sources import list_sources

NAMES = ["<cat>", "dog"]
PICTURES = {"a.png": 200, "=b, \"2\".png": 90, "c<i>.png": 150}  # name -> confidence


@pytest.fixture
def pictures(tmp_path):
    made = []
    for name, sure in PICTURES.items():
        stem = name.removesuffix(".png")
        labels = np.zeros((48, 64), np.uint8)
        labels[10:30, 10:40] = 1
        write_label_png(labels, tmp_path / f"{stem}_mask.png")
        Image.fromarray(np.full((48, 64), sure, np.uint8)).save(tmp_path / f"{stem}_confidence.png")
        Image.new("RGB", (64, 48), "green").save(tmp_path / name)
        made.append(Reviewed(name, str(tmp_path / name), tmp_path / f"{stem}_mask.png",
                             tmp_path / f"{stem}_confidence.png"))  # fmt: skip
    return made


def test_numbers_of_doubt():
    labels = np.zeros((4, 6), np.uint8)
    labels[1:3, 1:3] = 2
    confidence = np.where(labels == 2, 0.5, 1.0)
    assert edges(labels).sum() == 4 + 8
    found = {name: doubt(labels, confidence) for name, doubt in DOUBTS.items()}
    assert found["mean"] == pytest.approx(22 / 24) and found["foreground"] == found["weakest"] == 0.5
    assert found["boundary"] == pytest.approx(10 / 12) and found["contour"] == 0.5
    assert found["entropy"] == pytest.approx(1 - 4 / 12, abs=1e-3)
    flat = {name: doubt(np.zeros((4, 6), np.uint8), np.ones((4, 6))) for name, doubt in DOUBTS.items()}
    assert flat == {"mean": 1, "foreground": 0, "weakest": 0, "boundary": 0, "entropy": 0, "contour": 1}


def test_a_confidence_of_another_size(pictures, tmp_path):
    Image.new("L", (9, 9)).save(pictures[0].confidence)
    with pytest.raises(ValueError, match=r"is \[9, 9\], its mask \[48, 64\]; make both anew"):
        certainty(pictures[0])


def test_accept_reject_export(pictures, tmp_path):
    assert write_review(tmp_path / "review.html", pictures, NAMES) == 3
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1000, "height": 700})
        view = context.new_page()
        errors, asked = [], []
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.on("request", lambda request: asked.append(request.url))
        view.goto((tmp_path / "review.html").as_uri())
        order = view.locator("figure").evaluate_all("all => all.map(f => f.dataset.name)")
        assert order == ["=b, \"2\".png", "c<i>.png", "a.png"]  # the most doubtful first
        view.click("figure >> nth=0 >> text=Reject")
        view.focus("figure >> nth=1")
        view.keyboard.press("a")
        assert view.inner_text("#counts") == "1 accepted, 1 rejected, 1 open"
        assert view.evaluate("document.activeElement.dataset.name") == "a.png"  # the next one

        rows = list(csv.DictReader(io.StringIO(saved(view, "#csv", tmp_path / "review.csv"), newline="")))
        assert [(row["picture"], row["verdict"]) for row in rows] == [
            ("'=b, \"2\".png", "rejected"), ("c<i>.png", "accepted"), ("a.png", "open"),
        ]  # fmt: skip
        assert float(rows[0]["confidence"]) == pytest.approx(certainty(pictures[1]), abs=1e-3)
        saved(view, "#accepted", tmp_path / "accepted.txt")
        assert [source.location for source in list_sources(tmp_path / "accepted.txt")] == [str(tmp_path / "c<i>.png")]

        view.select_option("#filter", "rejected")
        assert view.locator("figure:visible").count() == 1
        view.reload()  # what was chosen is kept
        assert view.inner_text("#counts") == "1 accepted, 1 rejected, 1 open"
        view.click("figure >> nth=0 >> text=Reject")  # once more: open again
        assert view.inner_text("#counts") == "1 accepted, 0 rejected, 2 open"
        small = view.locator("figure img").first.bounding_box()["width"]
        view.locator("figure img").first.click()
        assert view.locator("figure img").first.bounding_box()["width"] > 2 * small
        assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert errors == [] and all(url.startswith(("file:", "data:", "blob:")) for url in asked)


def saved(view, selector: str, path) -> str:
    """The text of a file that a button saves."""
    with view.expect_download() as waiting:
        view.click(selector)
    assert waiting.value.suggested_filename == path.name
    waiting.value.save_as(path)
    return path.read_bytes().decode()
