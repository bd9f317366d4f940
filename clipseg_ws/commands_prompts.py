"""The commands ``prompts list``, ``show`` and ``rank``; their bodies import what they need."""

from __future__ import annotations

from typing import Annotated

import typer

from clipseg_ws.options import DEFAULT_MODEL, Classes, Device, Dtype, Model, Offline, make_segmenter, tags_lookup

prompts_app = typer.Typer(help="Inspect vocabularies and templates; rank templates by sharpness.", no_args_is_help=True)


@prompts_app.command("list")
def prompts_list() -> None:
    """Names of the vocabularies, template lists and background lists that come with the package."""
    from clipseg_ws.prompt_lists import list_backgrounds, list_templates, list_vocabularies

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
    from clipseg_ws.text_embeddings import texts
    from clipseg_ws.vocabulary import parse_classes

    vocabulary = parse_classes(classes)
    words, owner = texts(vocabulary)
    for index, name in enumerate(vocabulary.names):
        mine = [word for word, o in zip(words, owner, strict=True) if o == index]
        typer.echo(f"{index + 1:>4} {name}: {' | '.join(mine)}")
    typer.echo(f"background: {', '.join(vocabulary.background) or 'none (the default list is used)'}")
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
    from clipseg_ws.prompt_lists import load_templates
    from clipseg_ws.prompt_selection import rank_templates
    from clipseg_ws.runner import pooled_embeddings
    from clipseg_ws.sources import list_sources

    found = list_sources(sources)
    candidates = load_templates(templates.split("|") if "{}" in templates else templates)
    segmenter = make_segmenter(model, "default", device, dtype, offline, None)
    lookup = tags_lookup(tags, found) if tags is not None else None
    vocabulary = segmenter.vocabulary(classes)
    embeddings, kept = pooled_embeddings(segmenter, found)
    names = None if lookup is None else [lookup(source) for source in kept]
    ranked = rank_templates(
        embeddings, segmenter.backbone.encode_text, vocabulary, candidates,
        logit_scale=segmenter.backbone.logit_scale, tags=names,
    )  # fmt: skip
    typer.echo(f"sharpness of {len(candidates)} templates on {len(kept)} pictures (smaller is better)")
    for template, value in ranked[:top]:
        typer.echo(f"{value:.6f}  {template}")
