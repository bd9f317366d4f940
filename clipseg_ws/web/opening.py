"""What the page opens with and offers to try: the photos of the package, drawn scenes, and names that suit them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.embedded.photos import PHOTOS, Photo
from clipseg_ws.web.controls import drawn_picture
from clipseg_ws.web.engine import MOST_KNOWN
from clipseg_ws.web.pictures import Picture, shrink
from clipseg_ws.web.render import data_uri

FIRST_SCENE = 9_000_043
FIRST_PHOTO = next(iter(PHOTOS.values()))
THUMBNAIL = 96  # pixels, longest side
PICK = (
    "for (const b of element.querySelectorAll('button'))"
    " b.addEventListener('click', () => { props.value = b.dataset.photo; trigger('picked'); });"
)


def opening(model: str) -> Picture:
    """The first picture: a drawn scene for ``nano``, which knows nothing else, a photo for all others."""
    return drawn_picture(FIRST_SCENE)[0] if model == "nano" else photo_picture(FIRST_PHOTO.name)


def photo_picture(name: str) -> Picture:
    """A photo of the package as a picture of the page. Raises ValueError for a name that is none."""
    photo = _photo(name)
    return shrink(photo.open(), f"{photo.title} ({photo.path.name})")


def photo_names(name: str, known: Sequence[str]) -> str:
    """The text of the names box for a photo: all that the model knows where that is a short list, else what one sees.

    Raises ValueError for a name that is no photo of the package.
    """
    return "; ".join(known if 0 < len(known) <= MOST_KNOWN else _photo(name).shows)


def scene_names(known: Sequence[str]) -> str:
    """The text of the names box for a drawn scene: all that the model knows where that is a short list, else all kinds
    of things that are drawn."""
    return "; ".join(known if 0 < len(known) <= MOST_KNOWN else KINDS)


def opening_names(model: str, known: Sequence[str]) -> str:
    """The text of the names box at first."""
    return scene_names(known) if model == "nano" else photo_names(FIRST_PHOTO.name, known)


def is_offered(text: str, known: Sequence[str]) -> bool:
    """Whether the names box still holds what the page put there, which another picture's names may replace."""
    return text in {scene_names(known), scene_names(()), *(photo_names(name, ()) for name in PHOTOS)}


def thumbnails_html() -> str:
    """A button with a small picture for every photo of the package."""
    buttons = [
        f'<button type="button" data-photo="{escape(photo.name)}" title="{escape(photo.title)}">'
        f'<img alt="{escape(photo.title)}" src="{data_uri(photo.open(), THUMBNAIL)}"></button>'
        for photo in PHOTOS.values()
    ]
    return f'<div class="cs-photos" role="toolbar" aria-label="photos to try">{"".join(buttons)}</div>'


def _photo(name: str) -> Photo:
    if name not in PHOTOS:
        raise ValueError(f"there is no photo {name!r} in the package; choose one of {', '.join(PHOTOS)}")
    return PHOTOS[name]
