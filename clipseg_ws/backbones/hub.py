"""The model hub and its cache on this machine: single files and lists of files, no knowledge of what is in them.

Cached files are used without asking the network. Every answer that needs the network is asked for once, with a time
limit, before anything is downloaded: without a connection that fails within seconds, where the hub's own downloads
retry for half a minute.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clipseg_ws.backbones.errors import WeightsNotFound
from clipseg_ws.backbones.families import embedded

TIMEOUT = 10.0  # seconds for the first answer of the hub


def is_offline(offline: bool = False) -> bool:
    """True where the network must not be used: asked for, or HF_HUB_OFFLINE=1 in the environment."""
    from huggingface_hub import constants

    asked = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return offline or asked or bool(constants.HF_HUB_OFFLINE)


def cached_file(repo: str, file: str) -> Path | None:
    """A file of a repository where it is cached."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, file)
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def require_network(name: str, repo: str, files: Sequence[str], offline: bool) -> None:
    """Raise WeightsNotFound where the network must not be used; says what of model ``name`` was looked for."""
    if is_offline(offline):
        from huggingface_hub import constants

        raise WeightsNotFound(
            f"the weights of {name!r} are not on this machine and offline mode is on: looked for {', '.join(files)} of "
            f"{repo} in {constants.HF_HUB_CACHE}. "
            f"While online, run: clipseg-ws download {name}   {_embedded()}"
        )


def list_files(name: str, repo: str) -> list[str]:
    """Names of all files of the repository, from the hub, in one request with a time limit."""
    from huggingface_hub import HfApi

    with hub_errors(name, repo):
        return [entry.rfilename for entry in HfApi().model_info(repo, timeout=TIMEOUT).siblings or []]


def fetch(name: str, repo: str, files: Sequence[str]) -> Path:
    """Download the named files where they are not cached; the snapshot folder that holds them."""
    from huggingface_hub import snapshot_download

    with hub_errors(name, repo):
        return Path(snapshot_download(repo, allow_patterns=list(files)))


@contextmanager
def hub_errors(name: str, repo: str) -> Iterator[None]:
    """Turn the hub's and its HTTP library's errors, which differ between releases, into one that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        yield
    except HFValidationError as error:
        raise ValueError(f"model {name!r}: {error}; for example 'hf:openai/clip-vit-base-patch16'") from error
    except RepositoryNotFoundError as error:  # gated ones too
        raise WeightsNotFound(
            f"model {name!r}: the hub has no repository {repo!r}, or it is private or gated; check the name, "
            "or log in with: hf auth login"
        ) from error
    except Exception as error:
        raise WeightsNotFound(
            f"the weights of {name!r} could not be fetched from the hub ({_first_line(error)}); they were "
            f"looked for in {constants.HF_HUB_CACHE}. Check the connection (HTTPS_PROXY, HF_ENDPOINT) and try again: "
            f"clipseg-ws download {name}   {_embedded()}"
        ) from error


def _embedded() -> str:
    """What works without any download."""
    names = [repr(name) for name in embedded()]
    start = f"models {', '.join(names)} need" if len(names) > 1 else f"model {names[0]} needs"
    return f"(the embedded {start} no download)"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
