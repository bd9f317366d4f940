"""The commands ``prompts list``, ``show``, ``rank``, ``experts``, ``background``; bodies import what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.cli.asking import read_labels
from clipseg_ws.cli.grouping import grouped
from clipseg_ws.cli.groups import ModelOptions, NameOptions, WeakOptions
from clipseg_ws.cli.options import Classes, Pictures, TagsOption, option
from clipseg_ws.text.lists import list_backgrounds, list_templates, list_vocabularies, load_templates

prompts_app = typer.Typer(help="Inspect vocabularies and templates; rank templates by sharpness.", no_args_is_help=True)
Templates = Annotated[str, option("--templates", help=f"{', '.join(list_templates())}, or templates separated by |.")]


@prompts_app.command("list")
def prompts_list() -> None:
    """Names of the vocabularies, template lists and background lists that come with the package."""
    for title, names in (
        ("vocabularies", list_vocabularies()),
        ("templates", list_templates()),
        ("backgrounds", list_backgrounds()),
    ):
        typer.echo(f"{title}: {', '.join(names)}")


@prompts_app.command("show")
def prompts_show(
    classes: Annotated[str, typer.Argument(help='A vocabulary name, a YAML file, or "cat; person, people".')],
) -> None:
    """What is really encoded for a vocabulary: words, background, templates."""
    from clipseg_ws.text.embeddings import texts
    from clipseg_ws.text.vocabulary import parse_classes

    vocabulary = parse_classes(classes)
    words, owner = texts(vocabulary)
    for index, name in enumerate(vocabulary.names):
        mine = [word for word, o in zip(words, owner, strict=True) if o == index]
        typer.echo(f"{index + 1:>4} {name}: {' | '.join(mine)}")
        if vocabulary.prompts and vocabulary.prompts[index]:
            typer.echo(f"     own prompts: {' | '.join(vocabulary.prompts[index])}")
    behind = vocabulary.background
    said = "none (the default list is used)" if behind is None else ", ".join(behind) or "none"
    typer.echo(f"background: {said}")
    typer.echo(f"templates ({len(vocabulary.templates)}): {' | '.join(vocabulary.templates)}")


@prompts_app.command("rank")
@grouped
def prompts_rank(
    pictures: Pictures, *, classes: Classes = None, templates: Templates = "imagenet80", tags: TagsOption = None,
    top: Annotated[int, option("--top", min=1, help="How many to print.")] = 10, model: ModelOptions,
) -> None:  # fmt: skip
    """Rank prompt templates by sharpness on your pictures (CLIP-ES): the smaller the better."""
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.embeddings import pooled_embeddings
    from clipseg_ws.text.sharpness import rank_templates

    found = list_sources(pictures)
    candidates = read_templates(templates)
    labels = read_labels(found, NameOptions(classes), WeakOptions(tags))
    segmenter = model.segmenter()
    vocabulary = segmenter.vocabulary(classes)
    embeddings, kept = pooled_embeddings(segmenter, found)
    ranked = rank_templates(
        embeddings, segmenter.backbone.embed_text, vocabulary, candidates, logit_scale=segmenter.backbone.logit_scale,
        tags=None if labels is None else [labels.tags(source) for source in kept],
    )  # fmt: skip
    typer.echo(f"sharpness of {len(candidates)} templates on {len(kept)} pictures (smaller is better)")
    for template, value in ranked[:top]:
        typer.echo(f"{value:.6f}  {template}")


@prompts_app.command("experts")
@grouped
def prompts_experts(
    pictures: Pictures, *, classes: Classes = None, templates: Templates = "imagenet80",
    output: Annotated[Path, option("-o", "--output", help="Class file (.yaml) to write, for -c.")],
    top: Annotated[int, option("--top", min=1, help="Experts a class.")] = 4, model: ModelOptions,
) -> None:  # fmt: skip
    """For each class the templates of lowest entropy on your pictures (FLOSS), as a class file."""
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.embeddings import patch_embeddings
    from clipseg_ws.text.class_files import write_classes
    from clipseg_ws.text.experts import template_experts

    candidates = read_templates(templates)
    segmenter = model.segmenter()
    vocabulary = segmenter.vocabulary(classes)
    patches, kept = patch_embeddings(segmenter, list_sources(pictures))
    chosen = template_experts(
        patches, segmenter.backbone.embed_text, vocabulary, candidates, segmenter.backbone.logit_scale, top=top,
        weights_key=segmenter.backbone.weights_sha256,
    )  # fmt: skip
    write_classes(chosen, output)
    typer.echo(f"experts among {len(candidates)} templates, by entropy on {len(kept)} pictures")
    for name, own in zip(chosen.names, chosen.prompts, strict=True):
        typer.echo(f"  {name}: {' | '.join(own) or 'never recognised, keeps the templates'}")
    typer.echo(f"use them with -c {output}")


@prompts_app.command("background")
@grouped
def prompts_background(
    *, classes: Classes = None, model: ModelOptions,
    count: Annotated[int, option("--count", min=0, help="How many words to choose.")] = 25,
) -> None:  # fmt: skip
    """The background words that --background auto takes for these classes, and how near each is to a class."""
    from clipseg_ws.text.background import rank_background

    segmenter = model.segmenter()
    vocabulary = segmenter.vocabulary(classes, ())
    ranked = rank_background(
        vocabulary, segmenter.backbone.embed_text, count=count, weights_key=segmenter.backbone.weights_sha256
    )
    chosen = [entry for entry in ranked if entry.chosen]
    for entry in ranked:
        if entry.chosen or (chosen and entry.similarity > chosen[0].similarity):
            mark = "" if entry.chosen else "  (too near: left out)"
            typer.echo(f"{entry.similarity:.3f}  {entry.word}, nearest to {entry.nearest}{mark}")
    typer.echo(f"{len(chosen)} of {len(ranked)} words chosen")


def read_templates(text: str) -> tuple[str, ...]:
    """A list by its name, or templates separated by ``|``."""
    return load_templates(text.split("|") if "{}" in text else text)
