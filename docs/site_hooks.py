"""mkdocs: pages and files of the checkout that lie outside ``docs/`` become part of the site, links to them included.

On a forge ``docs/heads.md`` links to ``../eval/RESULTS.md``; the site has that page as ``eval/RESULTS.md``. Files that
are linked and are no page of the site (CSV, Python, pictures) are copied.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "eval/RESULTS.md", "eval/PERFORMANCE.md")
LINK = re.compile(r'(\]\(|src=")(?!\w+://|#|mailto:)([^)"\s#]+)')

TO_FOLDER = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages outside, and whatever file they or the pages inside link to."""
    for name in PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    linked = set()
    for file in [file for file in files if file.src_uri.endswith(".md")]:
        text = file.content_string
        linked |= {place for _, target in LINK.findall(text) if (place := inside(file.src_uri, target))}
    for place in sorted(linked - {file.src_uri for file in files}):
        if (ROOT / place).is_file():
            files.append(File.generated(config, place, abs_src_path=str(ROOT / place)))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Links as they are from the page's place in the site."""
    here = Path(page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        place = inside(page.file.src_uri, match[2])
        up = [".."] * len(here.parts)
        return match[0] if place is None else match[1] + "/".join([*up, place])

    def plain(match: re.Match[str]) -> str:
        """A link to a folder, of which the site has no page, as its text."""
        place = inside(page.file.src_uri, match[2])
        return match[1] if place is not None and (ROOT / place).is_dir() else match[0]

    return LINK.sub(moved, TO_FOLDER.sub(plain, markdown))


def inside(source: str, target: str) -> str | None:
    """Where a link of a page leads, from the root of the site; None where nothing of the checkout is there."""
    home = ROOT / source if source in PAGES else ROOT / "docs" / source
    found = (home.parent / target).resolve()
    if not found.exists() or ROOT not in found.parents:
        return None
    place = found.relative_to(ROOT).as_posix()
    return {"README.md": "index.md"}.get(place, place.removeprefix("docs/"))
