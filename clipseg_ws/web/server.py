"""Starting the page: on this machine only, from a temporary folder, with nothing fetched from elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipseg_ws.web.pictures import MAX_BYTES

SESSIONS = 32  # visitors whose pictures are kept at a time
WAITING = 20  # questions in the queue; one is answered at a time
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'"
)
MOST_JSON = 8_000_000  # bytes of one question; pictures come by upload, not in it
_RELAYED = re.compile(r"/(file=/*https?:|proxy=)", re.IGNORECASE)  # gradio would fetch these on a visitor's behalf
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_META = re.compile(rb"<meta[^>]*(?:og:|twitter:)[^>]*>")
_ENVIRONMENT = ("GRADIO_ALLOWED_PATHS", "GRADIO_ROOT_PATH", "GRADIO_WATCH_DIRS", "GRADIO_NUM_WORKERS")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """ASGI middleware: a browser that holds to its policy loads from here only; nothing is fetched from elsewhere."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        refused = bool(_RELAYED.search(scope["path"]))
        if scope["method"] == "POST" and not scope["path"].endswith("/upload"):
            body, receive = await _read(receive)
            refused |= body is None or names_remote_file(body)
        if refused:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            return await send({"type": "http.response.body", "body": b"not served here"})
        page = _Page(send) if scope["path"] == "/" else None

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await (send if page is None else page)(message)

        return await self.app(scope, receive, guarded)


async def _read(receive: Receive) -> tuple[bytes | None, Receive]:
    """A request's body (None: too long), and a ``receive`` that gives it once more."""
    body, more = b"", True
    while more and len(body) <= MOST_JSON:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return (None if len(body) > MOST_JSON else body), again


def names_remote_file(body: bytes) -> bool:
    """Whether JSON holds a file whose path is an address, which gradio would download; other bodies hold none."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return False
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if re.match(r"\s*[a-z][a-z0-9+.-]*:/", str(value.get("path", "")), re.IGNORECASE):
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


class _Page:
    """Takes the links for social networks, which point elsewhere, out of the page's head."""

    def __init__(self, send: Send) -> None:
        self.send, self.start, self.body = send, {}, b""  # type: ignore[var-annotated]

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = dict(message)
            return
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = _META.sub(b"", self.body)
        kept = [(key, value) for key, value in self.start["headers"] if key.lower() != b"content-length"]
        self.start["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
        await self.send(self.start)
        await self.send({"type": "http.response.body", "body": body})


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
    folder = Path(tempfile.mkdtemp(prefix="clipseg_ws-web-")).resolve()  # readable by this user only
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

    page = build(Engine(model, **options), folder / "answers")
    page.queue(default_concurrency_limit=1, max_size=WAITING, api_open=False)
    page.launch(
        server_name=host, server_port=port, share=share, inbrowser=browser, prevent_thread_lock=True, quiet=True,
        show_error=False, max_file_size=MAX_BYTES, state_session_capacity=SESSIONS, ssr_mode=False, pwa=False,
        mcp_server=False, run_history=False, enable_monitoring=False, footer_links=[], theme=THEME, css=style(),
        app_kwargs={"middleware": [Middleware(Guard)], "docs_url": None, "redoc_url": None, "openapi_url": None},
    )  # fmt: skip
    return page


def serve(echo: Callable[[str], None], **options: Any) -> None:
    """``running`` until it is interrupted (Ctrl+C) or terminated; the addresses go to ``echo``."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the temporary folder goes away either way
        signal.signal(number, signal.default_int_handler)
    with running(**options) as page:
        echo(f"the page is at {page.local_url} (stop with Ctrl+C)")
        if page.share_url:
            echo(f"and for everybody who has this address at {page.share_url}")
        page.block_thread()
