"""Label Studio: tasks with predictions as brush masks, to be corrected by people, and the labelling set-up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from clipseg_ws.files import atomic_write, write_text
from clipseg_ws.output.items import Items, Labels, Mask, class_masks
from clipseg_ws.output.palette import ignored_name
from clipseg_ws.stored import voc_palette
from clipseg_ws.structures import IGNORE

BRUSH_RUN_BITS = (3, 4, 8, 16)  # the four widths of a run's length that Label Studio itself writes


def write_label_studio(path: str | Path, items: Items, names: Sequence[str], *, prefix: str = "") -> int:
    """One json of tasks with predictions, and ``<path's stem>.xml``, the labelling set-up; returns the task count.

    ``prefix`` goes before every file name, e.g. "/data/local-files/?d=photos/".
    """
    count = 0
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for item in items:
            task = label_studio_task(item.labels, names, prefix + item.name)
            file.write(("[\n" if not count else ",\n") + json.dumps(task))
            count += 1
        file.write("\n]\n" if count else "[]\n")
    write_text(Path(path).with_suffix(".xml"), label_studio_config(names))
    return count


def label_studio_task(
    labels: Labels, names: Sequence[str], image: str, *, scores: Mapping[str, float] | None = None,
    model_version: str = "clipseg_ws", from_name: str = "label", to_name: str = "image",
) -> dict[str, Any]:  # fmt: skip
    """A Label Studio task with one prediction: a brush mask for every class that occurs, and for ignored pixels.

    Args:
        image: where Label Studio finds the picture, e.g. "/data/local-files/?d=photos/cat.jpg".
        scores: name -> image-level score; the prediction's score is the smallest one of the classes that occur.
        from_name, to_name: names of the ``BrushLabels`` and ``Image`` tags in the labelling set-up.
    """
    height, width = labels.shape
    result: list[dict[str, Any]] = []
    masks = [(f"class{category}", names[category - 1], mask) for category, mask in class_masks(labels, names)]
    if (ignored := ignored_name(names)) is not None and (labels == IGNORE).any():
        masks.append((ignored, ignored, labels == IGNORE))
    for number, name, mask in masks:
        region: dict[str, Any] = {"id": number, "type": "brushlabels"}
        region |= {"from_name": from_name, "to_name": to_name, "original_width": width, "original_height": height}
        region |= {"image_rotation": 0}
        region |= {"value": {"format": "rle", "rle": encode_brush(mask), "brushlabels": [name]}}
        result.append(region | ({"score": float(scores[name])} if scores and name in scores else {}))
    prediction: dict[str, Any] = {"model_version": model_version, "result": result}
    if known := [region["score"] for region in result if "score" in region]:
        prediction["score"] = min(known)
    return {"data": {"image": image}, "predictions": [prediction]}


def label_studio_config(names: Sequence[str], *, from_name: str = "label", to_name: str = "image") -> str:
    """The labelling set-up (XML) that ``label_studio_task`` fits, with the colours of the palette."""
    colours = voc_palette(max(256, len(names) + 1))[[*range(1, len(names) + 1), IGNORE]].tolist()
    words = [*names, ignored_name(names)]
    lines = [
        f"    <Label value={quoteattr(name)} background={quoteattr('#{:02x}{:02x}{:02x}'.format(*colour))}/>\n"
        for name, colour in zip(words, colours, strict=True)
        if name is not None
    ]
    brush = f"<BrushLabels name={quoteattr(from_name)} toName={quoteattr(to_name)}>"
    image = f'<Image name={quoteattr(to_name)} value="$image"/>'
    return f"<View>\n  {image}\n  {brush}\n{''.join(lines)}  </BrushLabels>\n</View>\n"


def encode_brush(mask: Mask) -> list[int]:
    """Label Studio's brush run lengths of a bool mask [H, W], as bytes.

    Grammar, a bit stream from the top bit: 32 bits number of values (4 a pixel: RGBA, all 255 inside), 5 bits width of
    a value less one, four times 4 bits width of a run's length less one; then blocks of 1 bit (1: one value repeated),
    2 bits choice among the four widths, the length less one, the value. Zero bits fill the last byte.
    """
    values = mask.astype(bool).ravel()
    borders = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate([[0], borders]) if values.size else np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.append(starts, values.size)) * 4
    bits = [f"{values.size * 4:032b}{7:05b}"] + [f"{width - 1:04b}" for width in BRUSH_RUN_BITS]
    longest = 1 << BRUSH_RUN_BITS[-1]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        byte = "1" * 8 if values[start] else "0" * 8
        for run in [longest] * (length // longest) + ([length % longest] if length % longest else []):
            choice = next(i for i, width in enumerate(BRUSH_RUN_BITS) if run <= 1 << width)
            bits.append(f"1{choice:02b}{run - 1:0{BRUSH_RUN_BITS[choice]}b}{byte}")
    stream = np.frombuffer("".join(bits).encode("ascii"), dtype=np.uint8) - ord("0")
    encoded: list[int] = np.packbits(stream).tolist()
    return encoded
