"""What stands before the service: who may ask, how much a request may carry, how many wait. Refusals are JSON."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from clipseg_ws.web.guard import App, Message, Receive, Send, header, read_body, wrong_address

FREE = ("/health", "/label-studio/health", "/label-studio", "/label-studio/")  # answered even where the queue is full


@dataclass(frozen=True)
class Limits:
    """How much is taken.

    Attributes:
        bytes: of one request. pixels: of one picture before it is decoded. names: classes of one question.
        waiting: requests that are worked on or wait at a time; one is answered at a time. seconds: for a request to
            come in.
    """

    bytes: int = 30_000_000
    pixels: int = 64_000_000
    names: int = 300
    waiting: int = 8
    seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"limit {name}={value}; more than 0 is needed")


class Gate:
    """ASGI middleware.

    Args:
        hosts: names that a request may be addressed to. limits: see there.
    """

    def __init__(self, app: App, hosts: set[str], limits: Limits) -> None:
        self.app, self.hosts, self.limits = app, hosts, limits
        self.inside = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        if wrong := wrong_address(scope, self.hosts):
            return await refuse(send, 403, wrong.replace("this page", "this service"))
        if scope["method"] in ("GET", "HEAD") or scope["path"] in FREE:
            return await self.app(scope, receive, send)
        if self.inside >= self.limits.waiting:
            text = f"{self.inside} requests are being answered or wait, the most that are taken; ask again"
            return await refuse(send, 503, text, retry=2)
        self.inside += 1
        try:
            await self._taken(scope, receive, send)
        finally:
            self.inside -= 1

    async def _taken(self, scope: Message, receive: Receive, send: Send) -> None:
        most = self.limits.bytes
        told = header(scope, b"content-length") or ""
        if told.isdigit() and int(told) > most:
            return await refuse(send, 413, f"the request has {told} bytes; at most {most} are taken")
        try:
            body, receive = await asyncio.wait_for(read_body(receive, most), self.limits.seconds)
        except TimeoutError:
            return await refuse(send, 408, f"the request took longer than {self.limits.seconds:g} s to come in")
        if body is None:
            return await refuse(send, 413, f"the request has more than {most} bytes, the most that are taken")
        await self.app(scope, receive, send)


async def refuse(send: Send, status: int, text: str, retry: int | None = None) -> None:
    """{"error": text}; ``retry``: seconds after which it is worth to ask again."""
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if retry is not None:
        headers.append((b"retry-after", str(retry).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": text}).encode()})
