"""Small real files of every kind that the product reads, and what is done to them: bytes, numbers, structure."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save as tensors

from clipseg_ws.fewshot.bank import FORMAT as BANK_FORMAT
from clipseg_ws.heads.base import make_head
from clipseg_ws.heads.file import FORMAT as HEAD_FORMAT

NUMBERS = (
    b"0", b"-1", b"1e999", b"NaN", b"99999999999", b"1000000000", b"1e308", b"9" * 400, b"0.5", b"null", b"-1e-9",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1e999, float("nan"), 1e308, 10**30, 255, 1000000, "", "x", "../../evil", "\0", "a" * 5000, [],
    {}, [[]], [None], {"a": 1}, [1, "x"],
)  # fmt: skip
JUNK = (
    b"", b"\0" * 9, b"[" * 3000, b'{"a":' * 2000, b"\xff\xfe", b"\xed\xa0\x80", b"<a>" * 3000, b";" * 99, b"&a [*a]",
    b"!!python/object:os.system", b'"' * 7, b"\r\n", b"<!ENTITY a 'b'>", b'encoding="foo"',
)  # fmt: skip
SIZES = (0, 1, 2, 17_320, 65_535, 65_536, 64_000_000, 2**31 - 1)
COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 24, "height": 16}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [2, 3, 8, 9], "segmentation": [[2, 3, 9, 3, 9, 11]]},
        {"id": 2, "image_id": 7, "category_id": 2, "segmentation": {"size": [16, 24], "counts": [3, 21, 360]}},
        {"id": 3, "image_id": 7, "category_id": 2, "segmentation": {"size": [16, 24], "counts": "6=0O2N2"}},
    ],
}
LABELME = {
    "version": "5.0", "imagePath": "a.png", "imageWidth": 24, "imageHeight": 16, "shapes": [
        {"label": "cat", "shape_type": "rectangle", "points": [[2, 3], [9, 11]]},
        {"label": "dog", "shape_type": "linestrip", "points": [[2, 3], [9, 11], [12, 3]]},
        {"label": "cat", "shape_type": "point", "points": [[4, 4]]},
    ],
}  # fmt: skip
STUDIO = [{
    "id": 1, "data": {"image": "/data/local-files/?d=a.png"}, "annotations": [{"result": [
        {"id": "r", "type": "rectanglelabels", "original_width": 24, "original_height": 16,
         "value": {"x": 10, "y": 10, "width": 30, "height": 30, "rotation": 5, "rectanglelabels": ["cat"]}},
        {"id": "k", "type": "keypointlabels", "value": {"x": 50, "y": 50, "keypointlabels": ["dog"]}},
    ]}],
}]  # fmt: skip
VOC = (b'<?xml version="1.0" encoding="utf-8"?><annotation><filename>a.png</filename><size><width>24</width><height>16'
       b"</height><depth>3</depth></size><object><name>cat</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>9</xmax>"
       b"<ymax>11</ymax></bndbox></object></annotation>")  # fmt: skip
CVAT = (b'<annotations><version>1.1</version><image id="0" name="a.png" width="24" height="16"><box label="cat" xtl="2"'
        b' ytl="3" xbr="9" ybr="11" rotation="5"/><points label="dog" points="4,4;5,6"/><polyline label="cat" points='
        b'"1,1;9,9"/><ellipse label="dog" cx="8" cy="8" rx="3" ry="2"/><tag label="cat"/></image>'
        b"</annotations>")  # fmt: skip
CONFIG = {
    "model_cfg": {
        "embed_dim": 64, "vision_cfg": {"image_size": 224, "layers": 12, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
    }, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "size": 224},
}  # fmt: skip
PAINTED = [{"kind": "outline", "points": [[1, 1], [9, 9], [2, 9]]}, {"kind": "brush", "points": [[4, 4]], "width": 9}]
SHAPES = [{"kind": "box", "name": "cat", "points": [[1, 1], [9, 9]], "width": 3},
          {"kind": "scribble", "name": "dog", "points": [[1, 1], [2, 2], [9, 9]]}]  # fmt: skip
HEAD = {
    "format": HEAD_FORMAT, "classes": '["a", "b"]', "backbone": "nano", "weights_sha256": "0" * 64, "width": "8",
    "kind": "linear", "options": "{}", "training": "{}",
    "features": '{"blocks": [-1], "short_side": null, "long_side": null, "max_patches": 2304, '
    '"position_interpolation": "bicubic", "more_scales": []}',
}  # fmt: skip
BANK = {"format": BANK_FORMAT, "model": "nano", "position_interpolation": "bicubic", "weights_sha256": "0" * 64,
        "kinds": ["input"], "asked": [], "entries": [{"label": "cat", "name": "a", "predicted": False}]}  # fmt: skip


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> bytes:
    """A small picture in a format of Pillow's."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 3, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels * (80 if mode == "RGB" else 1)).convert(mode)
    image.save(buffer, format=kind)
    return buffer.getvalue()


def label_png() -> bytes:
    """A palette PNG with the labels 0, 1, 2."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.random.default_rng(2).integers(0, 3, (16, 24), dtype=np.uint8))
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def npz() -> bytes:
    """The state of a run of three classes."""
    head = {"failed": {}, "seconds": 1.0, "total": 1.0, "memory": 0.0, "code": "", "finished": ""}
    head |= {"read": [], "ids": ["a"]}
    buffer = io.BytesIO()
    arrays = {"confusion/matrix": np.eye(3, dtype=np.int64), "scores": np.array([0.5])}
    np.savez(buffer, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
    return buffer.getvalue()


def checkpoint() -> bytes:
    """A training's state."""
    buffer = io.BytesIO()
    torch.save({"settings": {"a": 1}, "step": 3, "weights": torch.zeros(4)}, buffer)
    return buffer.getvalue()


def head() -> bytes:
    """A head that fits its card, or nearly."""
    return tensors(dict(make_head("linear", 1, 8, 3).state_dict()), metadata=HEAD)


def bank() -> bytes:
    """A bank of one example."""
    parts = {"0.feature.input": torch.zeros(4, 8), "0.foreground": torch.ones(4), "0.background": torch.zeros(4)}
    return tensors(parts, metadata={"clipseg_ws": json.dumps(BANK)})


def plain(content: Any) -> bytes:
    """JSON."""
    return json.dumps(content).encode()


# ---- what is done to them -------------------------------------------------------------------------------------------
def mutated(data: bytes, rnd: random.Random) -> bytes:
    """The file with one to four things done to it."""
    for _ in range(rnd.randint(1, 4)):
        data = rnd.choice(_mutators(data))(data, rnd)
    return data[:20_000_000]


def _mutators(data: bytes) -> list[Callable[[bytes, random.Random], bytes]]:
    found = [_flip, _cut, _repeat, _number, _junk]
    if data[:1] in (b"{", b"["):
        found += [_structure] * 5
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        found += [_png_header] * 3
    if len(data) > 8 and data[8:9] == b"{":
        found += [_card] * 4
    return found


def _flip(data: bytes, rnd: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rnd.randint(1, 8)):
        if changed:
            changed[rnd.randrange(len(changed))] = rnd.randrange(256)
    return bytes(changed)


def _cut(data: bytes, rnd: random.Random) -> bytes:
    return data[: rnd.randint(0, len(data))]


def _repeat(data: bytes, rnd: random.Random) -> bytes:
    start, end = sorted(rnd.randint(0, len(data)) for _ in range(2))
    times = rnd.choice([1, 2, 50]) if end - start < 10_000 else 1
    return data[:end] + data[start:end] * times + data[end:]


def _number(data: bytes, rnd: random.Random) -> bytes:
    places = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[:100_000]))
    if not places:
        return data
    place = rnd.choice(places)
    return data[: place.start()] + rnd.choice(NUMBERS) + data[place.end() :]


def _junk(data: bytes, rnd: random.Random) -> bytes:
    place = rnd.randint(0, len(data))
    junk = rnd.choice(JUNK)
    return junk if rnd.random() < 0.1 else data[:place] + junk + data[place:]


def _structure(data: bytes, rnd: random.Random) -> bytes:
    """One value of a JSON document replaced, removed or doubled."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        places += [(value, key) for key in keys]
        waiting += [value[key] for key in keys]
    if not places:
        return json.dumps(rnd.choice(VALUES)).encode()
    holder, key = rnd.choice(places)
    if rnd.random() < 0.2:
        del holder[key]
    elif rnd.random() < 0.2 and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = rnd.choice(VALUES)
    return json.dumps(content, default=str).encode()


def _png_header(data: bytes, rnd: random.Random) -> bytes:
    """Another declared size, depth or colour type, with the checksum that it needs."""
    fields = list(struct.unpack(">IIBBBBB", data[16:29])) if len(data) > 33 else [1, 1, 8, 0, 0, 0, 0]
    place = rnd.randrange(5)
    fields[place] = rnd.choice(SIZES) if place < 2 else rnd.choice([0, 1, 2, 3, 4, 6, 8, 16, 255])
    body = b"IHDR" + struct.pack(">IIBBBBB", *fields)
    return data[:12] + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


def _card(data: bytes, rnd: random.Random) -> bytes:
    """The header of a safetensors file with something done to it and the length that it needs."""
    size = struct.unpack("<Q", data[:8])[0]
    header = data[8 : 8 + size]
    try:
        content = json.loads(header)
        texts = content["__metadata__"]
        key = rnd.choice(list(texts))
        inner = texts[key].encode()
        changed = rnd.choice([_structure, _number, _cut, _junk])(inner, rnd)
        texts[key] = changed.decode("utf-8", "replace")
        header = json.dumps(content).encode()
    except (ValueError, KeyError, AttributeError, IndexError, TypeError, RecursionError):
        header = _structure(header, rnd)
    return struct.pack("<Q", len(header)) + header + data[8 + size :]
