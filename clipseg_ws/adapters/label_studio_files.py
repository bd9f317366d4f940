"""Where the pictures of Label Studio's tasks come from: that Label Studio itself, or a folder. No other address is
fetched, whatever a task says."""

from __future__ import annotations

import base64
import binascii
import json
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from clipseg_ws.door import InputError
from clipseg_ws.pictures.reading import decode_image, read_bytes, read_image

LOCAL = "/data/local-files/"


class TaskPictures:
    """``TaskPictures(url, token, folder)(address)``: the picture that a task names.

    Args:
        url: of Label Studio, "http://localhost:8080". token: of one of its users, the old kind or a personal access
            token; "": none. folder: what its local storage serves ("/data/local-files/?d=..."), read from disk.
        max_pixels, max_bytes: of one picture.

    Raises:
        ValueError: ``url`` is no http(s) address.
    """

    def __init__(
        self, url: str, token: str = "", folder: str | Path | None = None, *, max_pixels: int | None = None,
        max_bytes: int | None = None,
    ) -> None:  # fmt: skip
        self.url, self.token = url.rstrip("/"), token
        self.folder = None if folder is None else Path(folder).resolve()
        self.max_pixels, self.max_bytes = max_pixels, max_bytes
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ValueError(f"{url!r} is no address of a Label Studio, for example http://localhost:8080")

    def __call__(self, address: str) -> Image.Image:
        """Raises InputError for an address elsewhere, a file outside the folder, or what is no picture."""
        if address.startswith("data:"):
            return self._decoded(_inline(address), "the task's own data")
        path = address.removeprefix(self.url) if address.startswith(f"{self.url}/") else address
        if not path.startswith("/") or path.startswith("//"):
            raise InputError(
                f"{address!r:.120} is not fetched; pictures come from {self.url} only, e.g. '/data/upload/1/cat.jpg'"
            )
        if self.folder is not None and urlsplit(path).path == LOCAL:
            return self._local(self.folder, path)
        return self._decoded(self._downloaded(self.url + path), address)

    def _decoded(self, data: bytes, name: str) -> Image.Image:
        return decode_image(data, name, max_pixels=self.max_pixels)

    def _local(self, folder: Path, path: str) -> Image.Image:
        name = parse_qs(urlsplit(path).query).get("d", [""])[0]
        file = (folder / name.lstrip("/")).resolve()
        if not file.is_relative_to(folder) or not file.is_file():
            raise InputError(f"{name!r:.120} is no file below {str(folder)!r}")
        return read_image(file, max_pixels=self.max_pixels)

    def _downloaded(self, url: str) -> bytes:
        return read_bytes(url, max_bytes=self.max_bytes, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        """Old tokens are sent as they are; a personal access token (a JWT) is changed for a short-lived one."""
        if not self.token:
            return {}
        if self.token.count(".") != 2:
            return {"Authorization": f"Token {self.token}"}
        body = json.dumps({"refresh": self.token}).encode()
        request = urllib.request.Request(
            f"{self.url}/api/token/refresh", body, {"Content-Type": "application/json"}
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return {"Authorization": f"Bearer {json.loads(answer.read(100_000))['access']}"}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.url} does not take the access token: {error}") from error


def _inline(address: str) -> bytes:
    head, _, content = address.partition(",")
    if not head.endswith(";base64"):
        raise InputError(f"{head!r:.60} holds no picture in base64")
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise InputError(f"the task's own data is no base64: {error}") from error
