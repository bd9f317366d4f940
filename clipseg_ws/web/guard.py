"""What stands before the page: who may ask, what a request may carry, and what a browser may do with the answer."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clipseg_ws.web.pictures import MAX_BYTES

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; frame-ancestors 'none'; form-action 'self'"
)
MOST_JSON = 8_000_000  # bytes of one question; pictures come by upload, not in it
MOST_FILES = 4  # of one upload
QUOTA = 500_000_000  # bytes of the page's folder above which nothing is taken
AT_ONCE = 4  # uploads that are held in memory together
UPLOAD = re.compile(r"(/gradio_api)?/upload/?")
POSTS = re.compile(r"(/gradio_api)?/(upload|queue/join|cancel|reset)/?")  # all that the page itself sends
_RELAYED = re.compile(r"/(file=/*https?:|proxy=)", re.IGNORECASE)  # gradio would fetch these on a visitor's behalf
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_PART = re.compile(rb"\r?\ncontent-disposition:", re.IGNORECASE)
_META = re.compile(rb"<meta[^>]*(?:og:|twitter:)[^>]*>")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def allowed_hosts(host: str) -> set[str]:
    """The names under which the page answers: of this machine alone, and ``host``; of all its addresses where it
    listens on all. Another name is somebody's page that points its name here (DNS rebinding)."""
    names = {*LOOPBACK, host.strip("[]").lower()}
    if host in ("0.0.0.0", "::", ""):
        here = socket.gethostname()
        names |= {here.lower(), socket.getfqdn().lower()}
        with suppress(OSError):
            names |= {str(found[4][0]).lower() for found in socket.getaddrinfo(here, None)}
    return names


class Guard:
    """ASGI middleware. Requests are judged by who asks and what they carry, never by the ending of their path.

    Args:
        hosts: names that a request may be addressed to; may grow (the tunnel's name is known late).
        folder: of uploads and answers, whose size is held below ``QUOTA``.
    """

    def __init__(self, app: App, hosts: set[str] | None = None, folder: Path | None = None) -> None:
        self.app, self.hosts, self.folder = app, {*LOOPBACK} if hosts is None else hosts, folder
        self.uploads = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # the page opens no websocket
            return await send({"type": "websocket.close", "code": 1008})
        if wrong := wrong_address(scope, self.hosts) or (_RELAYED.search(scope["path"]) and "not served here"):
            return await refuse(send, 403, str(wrong))
        if scope["method"] in ("GET", "HEAD"):
            return await self.app(scope, receive, _Answer(send, page=scope["path"] == "/"))
        if scope["method"] != "POST" or not POSTS.fullmatch(scope["path"]):
            return await refuse(send, 403, "not served here")
        if is_form(scope) or UPLOAD.fullmatch(scope["path"]):
            return await self._upload(scope, receive, send)
        body, receive = await read_body(receive, MOST_JSON)
        if body is None or names_remote_file(body):
            return await refuse(send, 413 if body is None else 403, "not taken here")
        await self.app(scope, receive, _Answer(send))

    async def _upload(self, scope: Message, receive: Receive, send: Send) -> None:
        """Files, which come as a form to one path only."""
        if not (is_form(scope) and UPLOAD.fullmatch(scope["path"])):
            return await refuse(send, 403, "files come as a form, to the page's own upload")
        if self.folder is not None and folder_size(self.folder) > QUOTA:
            return await refuse(send, 507, f"the page holds {QUOTA // 10**6} MB of files; come back later")
        async with self.uploads:
            body, receive = await read_body(receive, MAX_BYTES + 100_000)
            if body is None:
                return await refuse(send, 413, f"at most {MAX_BYTES // 10**6} MB are taken")
            if len(_PART.findall(body)) > MOST_FILES:
                return await refuse(send, 413, f"at most {MOST_FILES} files are taken at a time")
            await self.app(scope, receive, _Answer(send))


def header(scope: Message, name: bytes) -> str | None:
    """A header's value; None where it is not there. Of one that stands twice all values, which then fit nothing."""
    found = [value for key, value in scope.get("headers", ()) if key.lower() == name]
    return b", ".join(found).decode("latin-1") if found else None


def is_form(scope: Message) -> bool:
    """Whether a request carries files."""
    return (header(scope, b"content-type") or "").strip().lower().startswith("multipart/")


def wrong_address(scope: Message, hosts: Collection[str]) -> str:
    """Why a request is not for this page, or not from it; "" where it is."""
    host, origin = header(scope, b"host"), header(scope, b"origin")
    if bare_host(f"//{host}") not in hosts:
        return "this page is not served under that name; open it by the address that was printed"
    if origin is not None and (bare_host(origin) not in hosts or urlsplit(origin).netloc != host):
        return "another site's page asks; this one answers its own only"
    if origin is None and (header(scope, b"sec-fetch-site") or "none") not in ("same-origin", "none"):
        fetched = header(scope, b"sec-fetch-mode") != "navigate"
        return "another site's page asks; this one answers its own only" if fetched else ""
    return ""


def bare_host(address: str) -> str | None:
    """The host of an address, without port and brackets, in lower case; None for what is none."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
        return str(ipaddress.ip_address(host)) if host and ":" in host else host
    except ValueError:
        return None


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(inside, name)).st_size
            except OSError:
                continue
    return total


async def refuse(send: Send, status: int, text: str) -> None:
    """A short answer with the same headers as every other."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def read_body(receive: Receive, most: int) -> tuple[bytes | None, Receive]:
    """A request's body (None: more than ``most`` bytes), and a ``receive`` that gives it once more."""
    parts, size, more = [], 0, True
    while more and size <= most:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False) and message["type"] == "http.request"
    whole = b"".join(parts)
    waiting: list[Message] = [{"type": "http.request", "body": whole, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return (None if size > most else whole), again


def names_remote_file(body: bytes) -> bool:
    """Whether JSON holds a file whose path is an address, which gradio would download; what is no JSON holds none."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return bool(body.strip())  # the page sends JSON or nothing
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if re.match(r"\s*[a-z][a-z0-9+.-]*:/", str(value.get("path", "")), re.IGNORECASE):
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


class _Answer:
    """Adds the headers, takes CORS away, and in the page itself the links for social networks, which lead elsewhere."""

    def __init__(self, send: Send, page: bool = False) -> None:
        self.send, self.page = send, page
        self.start: dict[str, Any] = {}
        self.body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            set_here = {key for key, _ in _HEADERS}
            kept = [
                (key, value) for key, value in message.get("headers", ())
                if key.lower() not in set_here and not key.lower().startswith(b"access-control-")
            ]  # fmt: skip
            message["headers"] = [*kept, *_HEADERS]
            if not self.page:
                return await self.send(message)
            self.start = dict(message)
            return None
        if not self.page:
            return await self.send(message)
        self.body += message.get("body", b"")
        if message.get("more_body"):
            return None
        body = _META.sub(b"", self.body)
        kept = [(key, value) for key, value in self.start["headers"] if key.lower() != b"content-length"]
        self.start["headers"] = [*kept, (b"content-length", str(len(body)).encode())]
        await self.send(self.start)
        await self.send({"type": "http.response.body", "body": body})
        return None
