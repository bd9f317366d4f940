"""Starting the page: on this machine only, from a temporary folder, with nothing fetched from elsewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipseg_ws.together import owner, sweep
from clipseg_ws.web.guard import Guard, allowed_hosts, bare_host
from clipseg_ws.web.pictures import MAX_BYTES

SESSIONS = 32  # visitors whose pictures are kept at a time
WAITING = 20  # questions in the queue; one is answered at a time
_ENVIRONMENT = ("GRADIO_ALLOWED_PATHS", "GRADIO_ROOT_PATH", "GRADIO_WATCH_DIRS", "GRADIO_NUM_WORKERS")

PREFIX = "clipseg_ws-web-"  # of the temporary folder


@contextmanager
def running(
    model: str = "photo", *, host: str = "127.0.0.1", port: int | None = None, share: bool = False,
    browser: bool = False, device: str = "auto", dtype: str = "auto", offline: bool = False,
) -> Iterator[Any]:  # fmt: skip
    """The page while the context lasts; yields gradio's Blocks (``.local_url``, ``.share_url``, ``.block_thread()``).

    Args:
        host, port: where it listens; None: the first free port from 7860 on. share: also through a public tunnel of
            gradio's makers, which needs the network. browser: open it. device, dtype, offline: as for ``Segmenter``.

    Raises:
        ImportError: gradio is not installed. ValueError: ``share`` and ``offline`` together. OSError: a taken port.
    """
    if share and offline:
        raise ValueError("--share opens a tunnel through the network; leave out --offline or --share")
    before = {key: os.environ.get(key) for key in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", *_ENVIRONMENT)}
    sweep(tempfile.gettempdir(), PREFIX, deep=False)  # of pages that were killed
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owner()}-")).resolve()  # readable by this user only
    for key in _ENVIRONMENT:
        os.environ.pop(key, None)
    os.environ |= {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False"}
    page = None
    try:
        options = {"device": device, "dtype": dtype, "offline": offline}
        page = _launch(folder, model, host, port, share, browser, options)
        yield page
    finally:
        if page is not None:
            page.close(verbose=False)
        shutil.rmtree(folder, ignore_errors=True)
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


def _launch(
    folder: Path, model: str, host: str, port: int | None, share: bool, browser: bool, options: dict[str, Any]
) -> Any:
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError(f"the page needs gradio: pip install 'clipseg_ws[demo]' ({error})") from error
    from starlette.middleware import Middleware

    from clipseg_ws.web.engine import Engine
    from clipseg_ws.web.page import THEME, build, style

    page, hosts = build(Engine(model, **options), folder / "answers"), allowed_hosts(host)
    page.queue(default_concurrency_limit=1, max_size=WAITING, api_open=False)
    page.launch(
        server_name=host, server_port=port, share=share, inbrowser=browser, prevent_thread_lock=True, quiet=True,
        show_error=False, max_file_size=MAX_BYTES, state_session_capacity=SESSIONS, ssr_mode=False, pwa=False,
        mcp_server=False, run_history=False, enable_monitoring=False, footer_links=[], theme=THEME, css=style(),
        app_kwargs={"middleware": [Middleware(Guard, hosts=hosts, folder=folder)],
                    "docs_url": None, "redoc_url": None, "openapi_url": None},
    )  # fmt: skip
    if page.share_url:
        hosts.add(str(bare_host(page.share_url)))
    return page


def serve(echo: Callable[[str], None], **options: Any) -> None:
    """``running`` until it is interrupted (Ctrl+C; SIGTERM by ``cli.stopping``); the addresses go to ``echo``."""
    with running(**options) as page:
        echo(f"the page is at {page.local_url} (stop with Ctrl+C)")
        if page.share_url:
            echo(f"and for everybody who has this address at {page.share_url}")
        page.block_thread()
