"""What the fuzzing suite reads: every reader of the product, with the name of its file and small real ones."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fuzz_inputs as seed
import torch

from clipseg_ws.backbones.folder import check_folder_config, load_folder
from clipseg_ws.backbones.places import embedded_files
from clipseg_ws.backbones.weights import read_weights
from clipseg_ws.config import parse_settings, resolve
from clipseg_ws.eval.datasets.coco_instances import coco_maps
from clipseg_ws.eval.datasets.episodes import read_episodes
from clipseg_ws.eval.datasets.files import read_list, read_truth
from clipseg_ws.eval.metrics import ConfusionMatrix
from clipseg_ws.eval.run.state import RunState
from clipseg_ws.eval.tables import COLUMNS, read_table
from clipseg_ws.fewshot.bank import load_bank
from clipseg_ws.fewshot.masks import read_mask
from clipseg_ws.heads.checkpoint import load_checkpoint
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.file import load_head
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.heads.store import TokenStore
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.pictures.reading import read_image, stored_size
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.training.masks import open_masks
from clipseg_ws.text.vocabulary import parse_classes
from clipseg_ws.values import read_pairs
from clipseg_ws.weak.marks import lookup_marks, read_marks
from clipseg_ws.weak.readers.scribbles import read_scribbles
from clipseg_ws.weak.tags import read_tags
from clipseg_ws.web.shapes import PAINT_KINDS, paint_mask, parse_shapes, to_weak

NANO, WEIGHTS = embedded_files("nano")[0].parent, "open_clip_model.safetensors"
NAMES = ("cat", "dog")
Read = Callable[[Path], Any]
Group = tuple[str, list[bytes], Read]  # file name, seeds, reader


def groups() -> dict[str, Group]:
    """Name -> (file name, seeds, reader)."""
    return _pictures() | _marks_and_tags() | _lists() | _weights() | _earlier_runs() | _texts()


def _mask(path: Path) -> Any:
    return read_mask(str(path), (24, 16))


def _classes(path: Path) -> Any:
    return parse_classes(str(path))


def _pictures() -> dict[str, Group]:
    coco = seed.plain(seed.COCO)
    rle = [seed.plain(a["segmentation"]) for a in seed.COCO["annotations"][1:]] + [coco]
    rle.append(seed.plain({"size": [1000000, 1000000], "counts": "x"}))
    kinds = ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM")
    return {
        **{f"picture {k.lower()}": (f"a.{k.lower()}", [seed.picture(k)], read_image) for k in kinds},
        "picture header": ("a.png", [seed.picture("PNG"), seed.picture("JPEG")], stored_size),
        "mask": ("m.png", [seed.label_png(), seed.picture("PNG", "L"), seed.picture("PNG", "RGBA")], _mask),
        "mask rle": ("m.json", rle, _mask),
        "label png": ("m.png", [seed.label_png(), seed.picture("PNG", "L")], read_label_png),
        "truth": ("m.png", [seed.label_png(), seed.picture("PNG", "1")], read_truth),
        "scribbles": ("a.png", [seed.label_png()], lambda p: read_scribbles(p, NAMES)),
        "coco maps": ("instances.json", [coco], _coco_maps),
    }


def _marks_and_tags() -> dict[str, Group]:
    coco, labelme, studio = (seed.plain(c) for c in (seed.COCO, seed.LABELME, seed.STUDIO))
    tags = [b"image,tags\na.png,cat;dog\nb.png,dog\n", b"a.png;cat\nb.png;dog\n", b"sep=;\nimage;tags\na.png;cat\n"]
    listed = [seed.plain({"a.png": ["cat"]}), seed.plain([{"image": "a", "tags": ["x"]}]), coco]
    return {
        "marks coco": ("c.json", [coco], _marks),
        "marks labelme": ("a.json", [labelme], _marks),
        "marks label studio": ("s.json", [studio], _marks),
        "marks voc": ("a.xml", [seed.VOC], _marks),
        "marks cvat": ("c.xml", [seed.CVAT], _marks),
        "tags csv": ("t.csv", tags, read_tags),
        "tags json": ("t.json", listed, read_tags),
        "tags xml": ("t.xml", [seed.VOC, seed.CVAT], read_tags),
    }


def _lists() -> dict[str, Group]:
    classes = [
        b"classes: [cat, 'dog, puppy']\nbackground: [sky]\nfusion: max\n",
        b"classes:\n- name: cat\n  words: [cat]\n",
    ]
    listed = [b'["cat", "dog"]', seed.plain(seed.COCO), b'{"names": {"0": "cat"}}']
    episodes = b"fold,shot,index,class_id,query,support_1\n0,1,0,1,a,b\n0,1,1,2,c,d\n"
    return {
        "classes yaml": ("c.yaml", classes, _classes),
        "classes json": ("c.json", listed, _classes),
        "classes text": ("c.txt", [b"cat\ndog, puppy\n# x\n"], _classes),
        "list": ("l.txt", [b"a.png\n~nouser/b.png\nhttp://x/y.png\n", b"# x\na.png\n"], list_sources),
        "parquet": ("l.parquet", [parquet()], list_sources),
        "split list": ("l.txt", [b"2007_1 -1\n2007_2 1\n", b"/a/x.jpg /b/x.png\n"], read_list),
        "episodes": ("e.csv", [episodes, packed(episodes)], read_episodes),
    }


def _weights() -> dict[str, Group]:
    return {
        "head": ("h.safetensors", [seed.head()], load_head),
        "bank": ("b.safetensors", [seed.bank()], load_bank),
        "weights": ("w.safetensors", [seed.head()], read_weights),
        "weights pickle": ("w.pt", [seed.checkpoint()], read_weights),
        "model folder": ("open_clip_config.json", [(NANO / "open_clip_config.json").read_bytes()], _model),
        "model weights": ("open_clip_model.safetensors", [(NANO / "nano.safetensors").read_bytes()], _model),
        "model config": ("open_clip_config.json", [seed.plain(seed.CONFIG)], _config),
    }


def _earlier_runs() -> dict[str, Group]:
    header = ",".join(COLUMNS).encode() + b"\n" + b"1," * (len(COLUMNS) - 1) + b"1\n"
    return {
        "checkpoint": ("c.pt", [seed.checkpoint()], _checkpoint),
        "token index": ("index.jsonl", [b'{"name": "a", "grid": [1, 2], "offset": 0}\n'], _tokens),
        "run state": ("s.npz", [seed.npz(), zip_bomb()], _state),
        "mask folder": ("settings.json", [seed.plain({"settings": {"refine": "crf"}, "classes": ["cat"]})], _masks),
        "results": ("results.csv", [header], _results),
    }


def _texts() -> dict[str, Group]:
    given = [b"alpha=1e-1", b"looks.flip=true", b"refine=pamr(iterations=5)", b"steps=affinity"]
    return {
        "drawing": ("d.json", [seed.plain(seed.SHAPES)], _drawing),
        "painting": ("d.json", [seed.plain(seed.PAINTED)], _painting),
        "settings": ("s.txt", given, _setting),
        "training": ("t.txt", [b"lr=1e-3", b"steps=10", b"weighting=hard"], _training),
    }


def _marks(path: Path) -> None:
    marks = read_marks(path, NAMES)
    lookup_marks(marks, path.parent / "pictures" / "a.png")


def _coco_maps(path: Path) -> None:
    for _, draw in coco_maps(path, empty=True)[:5]:
        draw()


def _checkpoint(path: Path) -> None:
    load_checkpoint(path, {"a": 1}, torch.device("cpu"))


def _tokens(path: Path) -> None:
    (path.parent / "tokens.bin").write_bytes(b"\0" * 64)
    (path.parent / "spec.json").unlink(missing_ok=True)
    model: Any = SimpleNamespace(weights_sha256="0" * 64, width=8, depth=2)
    store = TokenStore(path.parent, model, FeatureSpec(blocks=(-1,)))
    for name in store.entries:
        store.read([name])


def _state(path: Path) -> None:
    RunState({"confusion": ConfusionMatrix(3)}).load(path)


def _masks(path: Path) -> None:
    (path.parent / "classes.txt").write_text("background\ncat\n")
    assert open_masks(path.parent).threshold


def _config(path: Path) -> None:
    check_folder_config(path.parent)


def _results(path: Path) -> None:
    read_table(path, COLUMNS)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _drawing(path: Path) -> None:
    shapes = parse_shapes(_text(path), (24, 16), ("box", "point", "scribble"), NAMES)
    to_weak(shapes, NAMES, (24, 16))


def _painting(path: Path) -> None:
    paint_mask(parse_shapes(_text(path), (24, 16), PAINT_KINDS), (24, 16))


def _model(path: Path) -> None:
    for name, source in (("open_clip_config.json", "open_clip_config.json"), (WEIGHTS, "nano.safetensors")):
        if not (path.parent / name).exists():
            (path.parent / name).symlink_to(NANO / source)
    load_folder(path.parent, offline=True)


def _setting(path: Path) -> None:
    resolve("default", parse_settings([_text(path)]))


def _training(path: Path) -> None:
    TrainConfig.of(**read_pairs([_text(path)], "--train", "lr=1e-3"))


# ---- seeds of more than one library ----------------------------------------------------------------------------
def parquet() -> bytes:
    """A list of pictures; b"" without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet as pq
    except ImportError:
        return b"PAR1"
    buffer = io.BytesIO()
    pq.write_table(pyarrow.table({"path": ["a.png", "b.png"], "n": [1, 2]}), buffer)
    return buffer.getvalue()


def packed(data: bytes) -> bytes:
    """As gzip."""
    return gzip.compress(data, mtime=0)


def zip_bomb() -> bytes:
    """A small zip of a large array."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("head.npy", b"\x93NUMPY" + b"0" * 50_000_000)
    return buffer.getvalue()
