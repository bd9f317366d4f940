"""The commands ``prompts list``, ``show``, ``rank``, ``experts``, ``background``; bodies import what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.backbones import DEFAULT_MODEL
from clipseg_ws.cli.options import (
    Classes,
    Device,
    Dtype,
    Model,
    Offline,
    Setting,
    make_segmenter,
    tags_lookup,
)

prompts_app = typer.Typer(help="Inspect vocabularies and templates; rank templates by sharpness.", no_args_is_help=True)


@prompts_app.command("list")
def prompts_list() -> None:
    """Names of the vocabularies, template lists and background lists that come with the package."""
    from clipseg_ws.text.lists import list_backgrounds, list_templates, list_vocabularies

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
def prompts_rank(
    sources: Annotated[list[str], typer.Argument(help="Pictures, as for predict.")],
    classes: Classes = None,
    templates: Annotated[
        str, typer.Option(help="Name of a template list, or templates separated by |.")
    ] = "imagenet80",
    tags: Annotated[
        str | None, typer.Option(help="Tags of the pictures, as for predict; without, all classes.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to print.")] = 10,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
) -> None:
    """Rank prompt templates by sharpness on your pictures (CLIP-ES): the smaller the better."""
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.embeddings import pooled_embeddings
    from clipseg_ws.text.lists import load_templates
    from clipseg_ws.text.sharpness import rank_templates

    found = list_sources(sources)
    candidates = load_templates(templates.split("|") if "{}" in templates else templates)
    segmenter = make_segmenter(model, "default", device, dtype, offline, None)
    lookup = tags_lookup(tags, found) if tags is not None else None
    vocabulary = segmenter.vocabulary(classes)
    embeddings, kept = pooled_embeddings(segmenter, found)
    names = None if lookup is None else [lookup(source) for source in kept]
    ranked = rank_templates(
        embeddings, segmenter.backbone.embed_text, vocabulary, candidates,
        logit_scale=segmenter.backbone.logit_scale, tags=names,
    )  # fmt: skip
    typer.echo(f"sharpness of {len(candidates)} templates on {len(kept)} pictures (smaller is better)")
    for template, value in ranked[:top]:
        typer.echo(f"{value:.6f}  {template}")


@prompts_app.command("experts")
def prompts_experts(
    sources: Annotated[list[str], typer.Argument(help="Unlabelled pictures of the kind to be segmented.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Class file (.yaml) to write, for -c.")],
    classes: Classes = None,
    templates: Annotated[
        str, typer.Option(help="Name of a template list, or templates separated by |.")
    ] = "imagenet80",
    top: Annotated[int, typer.Option(min=1, help="Experts a class.")] = 4,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
    settings: Setting = None,
) -> None:
    """For each class the templates of lowest entropy on your pictures (FLOSS), as a class file."""
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.embeddings import patch_embeddings
    from clipseg_ws.text.class_files import write_classes
    from clipseg_ws.text.experts import template_experts
    from clipseg_ws.text.lists import load_templates

    candidates = load_templates(templates.split("|") if "{}" in templates else templates)
    segmenter = make_segmenter(model, "default", device, dtype, offline, settings)
    vocabulary = segmenter.vocabulary(classes)
    patches, kept = patch_embeddings(segmenter, list_sources(sources))
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
def prompts_background(
    classes: Classes = None,
    count: Annotated[int, typer.Option(min=0, help="How many words to choose.")] = 25,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
) -> None:
    """The background words that --background auto takes for these classes, and how near each is to a class."""
    from clipseg_ws.text.background import rank_background

    segmenter = make_segmenter(model, "default", device, dtype, offline, None)
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
