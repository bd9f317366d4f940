"""A report fits the window that it is looked at in."""

from __future__ import annotations

from browser import chromium

from clipseg_ws.eval.report.pages import Table, Warnings, page
from clipseg_ws.eval.report.writer import HEADER

LONG = [
    "default+refine=none+looks=true", "ViT-B-16-quickgelu openai", "val, fold 2", "88.71", "98.31", "93.93", "78.57",
    "1449", "tags", "training-free, 'Extract Free Dense Labels from CLIP', arXiv:2112.01071, table 2",
]  # fmt: skip


def test_report_fits_its_width(tmp_path):
    warnings = Warnings(["a" * 300, "differs from " + "/".join(["protocol"] * 60)])
    (tmp_path / "report.html").write_text(page([Table(HEADER, [LONG] * 3, frozenset({0})), warnings], "report"))
    with chromium() as browser:
        view = browser.new_page(viewport={"width": 1280, "height": 800})
        view.goto((tmp_path / "report.html").as_uri())
        wide = "[...document.querySelectorAll('.wide')].every(d => d.scrollWidth <= d.clientWidth)"
        assert view.evaluate(f"document.documentElement.scrollWidth <= innerWidth && {wide}")
        assert view.evaluate("document.querySelector('td.n').getBoundingClientRect().height < 120")
        view.set_viewport_size({"width": 390, "height": 800})  # a phone: the table scrolls, the page does not
        assert view.evaluate("document.documentElement.scrollWidth <= innerWidth")
