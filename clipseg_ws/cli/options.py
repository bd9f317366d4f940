"""Options that mean the same everywhere: one name, one meaning, one help text, made from the registries.

Their defaults stand in ``groups.py``. Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clipseg_ws.backbones.choice import WITHOUT_DOWNLOAD
from clipseg_ws.backbones.families import DEFAULT_MODEL, FAMILIES, FEATURES, forms
from clipseg_ws.config import METHODS
from clipseg_ws.output.formats import names_of
from clipseg_ws.refine import REFINERS
from clipseg_ws.regions import LABELLERS, REGIONS
from clipseg_ws.registry import Registry
from clipseg_ws.run import ENGINES
from clipseg_ws.text.lists import list_backgrounds, list_vocabularies
from clipseg_ws.weak import MARK_FORMATS, TAG_FORMATS, titles


def some_of(table: Registry) -> str:
    """ "one of a, b, c" for a help text."""
    return f"one of {', '.join(table)}"


def option(*names: str, help: str, **more: Any) -> Any:
    """``typer.Option`` with the help text where one sees it."""
    return typer.Option(*names, help=help, **more)


# ---- what is looked at and looked for -------------------------------------------------------------------------------
Pictures = Annotated[
    list[str], typer.Argument(help="Files, folders, globs, list.txt files, http(s) URLs, s3://bucket/folder.")
]
Classes = Annotated[
    str | None,
    option(
        "-c", "--classes",
        help='"cat; person, people" (; between classes, , between synonyms), a YAML file, or a name: '
        f"{', '.join(list_vocabularies())}.",
    ),
]  # fmt: skip
Background = Annotated[
    str | None,
    option(
        "--background",
        help=f'Words that compete as background: {", ".join(list_backgrounds())}, auto (chosen by the classes), or '
        '"sky, grass". By default the class file\'s own.',
    ),
]  # fmt: skip
TagsOption = Annotated[
    str | None,
    option(
        "--tags",
        help=f"What is in each picture: {titles(TAG_FORMATS)}, the word folders (a picture's folder is its tag), or "
        'names for all pictures such as "cat; dog".',
    ),
]  # fmt: skip
MarksOption = Annotated[
    list[Path] | None,
    option("--marks", help=f"Boxes, points, scribbles: {titles(MARK_FORMATS)}. Repeatable."),
]
Supports = Annotated[
    list[str] | None,
    option(
        "--support",
        metavar="IMAGE MASK [LABEL]",
        help="An example; repeatable. MASK: non-zero is the object, mask.png#8 is value 8, .json is a COCO RLE, "
        "- is unknown (LABEL only).",
    ),
]
SupportDir = Annotated[
    Path | None, option("--support-dir", help="Folder of examples: label/picture.jpg + label/picture.png.")
]
Host = Annotated[str, option("--host", help="Address to listen on; 127.0.0.1 is this machine alone.")]
Port = Annotated[
    int | None,
    option("--port", min=0, max=65535, help="To listen on; by default the page's is the first free one from 7860 on, "
           "the service's 8765."),
]  # fmt: skip
WeakSupports = Annotated[
    bool, option("--weak-supports", help="The folder has pictures without masks: label/picture.jpg.")
]
Bank = Annotated[
    Path | None, option("--bank", help="File of encoded examples: read where it exists, extended by new ones, saved.")
]

# ---- who looks ------------------------------------------------------------------------------------------------------
Model = Annotated[
    str | None,
    option(
        "--model",
        help=f"{forms(FAMILIES)}. By default {DEFAULT_MODEL} where it is on this machine, else "
        f"{WITHOUT_DOWNLOAD}; nothing is fetched.",
    ),
]
NamedModel = Annotated[str | None, option("--model", help=f"{forms(FAMILIES)}.")]
Features = Annotated[
    str | None,
    option(
        "--features",
        help=f'A second vision model for patch features: {forms(FEATURES)}, e.g. "{FEATURES["hf"].about["example"]}".',
    ),
]
Head = Annotated[
    Path | None,
    option("--head", help="A trained head (clipseg-ws train): its classes, one forward pass, no prompts."),
]
Method = Annotated[str, option("--method", help=f"How, {some_of(METHODS)}; see clipseg-ws list methods.")]
Refine = Annotated[
    str | None,
    option(
        "--refine",
        help=f"Refinement on the picture, {some_of(REFINERS)}; parameters as in pamr(iterations=5). By default the "
        "method's own; for pseudo masks crf where it is installed, else pamr.",
    ),
]
Regions = Annotated[
    str | None,
    option(
        "--regions",
        help=f"Regions of the picture that are decided as one, {some_of(REGIONS)}; parameters as in "
        "superpixels(side=24); see clipseg-ws list regions. By default the method's own.",
    ),
]
Labeller = Annotated[
    str | None,
    option("--labeller", help=f"What names things beside CLIP, {some_of(LABELLERS)}, e.g. sam3:facebook/sam3."),
]
Device = Annotated[str, option("--device", help='"auto", "cpu", "cuda", "cuda:1", "mps".')]
Dtype = Annotated[str, option("--dtype", help='"auto", "float32", "bfloat16" or "float16".')]
Offline = Annotated[bool, option("--offline", help="Never touch the network.")]
Setting = Annotated[
    list[str] | None,
    option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, e.g. --set alpha=2; steps by name, e.g. saliency=true, affinity.threshold=0.7, "
        '"steps=affinity, saliency(weight=0.5)" (clipseg-ws list steps). Repeatable.',
    ),
]

# ---- how a folder is worked through ---------------------------------------------------------------------------------
Results = Annotated[Path, option("-o", "--output", help="Folder for the results.")]
Formats = Annotated[
    str,
    option(
        "--format",
        help=f"Files to write, commas between. For each picture: {', '.join(names_of('picture'))}; for the whole "
        f"folder: {', '.join(names_of('dataset'))}; parameters as in coco(style=polygons), overlay(alpha=0.3, "
        "outline=0, palette=voc, legend=inside).",
    ),
]
Sheet = Annotated[
    bool, option("--sheet", help="Write the picture and its overlay side by side too, as --format sheet.")
]
Limit = Annotated[int | None, option("--limit", min=1, help="The first pictures only.")]
Shard = Annotated[
    str, option("--shard", metavar="I/N", help="Do only every N-th picture, from the I-th; I counts from 1.")
]
Shards = Annotated[
    str | None,
    option(
        "--shards",
        metavar="N|PLACE|PLACE,N",
        help="For any number of pictures: results as Parquet files of N pictures (1000) each, in --output or in PLACE, "
        "a folder or s3://bucket/folder; tars and Parquet files with pictures are read too. clipseg-ws unpack makes "
        "label PNGs of them.",
    ),
]
BatchSize = Annotated[
    int, option("--batch-size", min=1, help="Pictures of one size that go through the model together.")
]
Workers = Annotated[int, option("--workers", min=1, help="Threads that decode, and as many that write.")]
Engine = Annotated[
    str,
    option("--engine", help=f"Who does the work: {'; '.join(f'{e.name}: {e.summary}' for e in ENGINES.values())}."),
]
Overwrite = Annotated[bool, option("--overwrite", help="Do again what is there already.")]

# ---- elsewhere ------------------------------------------------------------------------------------------------------
Seed = Annotated[int, option("--seed", help="Of everything that is drawn at random.")]
Tables = Annotated[Path, option("-o", "--output", help="Folder for results.csv and the other tables.")]
Root = Annotated[
    Path | None, option("--root", help="Folder of the data set; the error of a missing one shows its tree.")
]
