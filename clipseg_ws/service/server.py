"""Starting the service: one process, one model, on this machine only unless a host is named."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from clipseg_ws.service.gate import Limits
from clipseg_ws.web.guard import allowed_hosts

PORT = 8765


def serve(
    echo: Callable[[str], None], segmenter: Any, *, host: str = "127.0.0.1", port: int = PORT,
    allow: Collection[str] = (), limits: Limits | None = None, label_studio: str | None = None, token: str = "",
    folder: Path | None = None,
) -> None:  # fmt: skip
    """Answer until it is interrupted.

    Args:
        echo: where the address is said. segmenter: what answers. host, port: where it listens.
        allow: further names under which it may be asked. label_studio: address of one whose backend this is, with
            ``token`` and ``folder`` as for ``TaskPictures``.

    Raises:
        ImportError: FastAPI or uvicorn is not installed. OSError: a taken port. ValueError: no address.
    """
    try:
        import uvicorn

        from clipseg_ws.service.app import make_app
    except ImportError as error:
        raise ImportError(f"the service needs FastAPI: pip install 'clipseg_ws[serve]' ({error})") from error
    from clipseg_ws.adapters.label_studio import Backend
    from clipseg_ws.adapters.label_studio_files import TaskPictures

    limits, backend = limits or Limits(), None
    if label_studio is not None:
        most = {"max_pixels": limits.pixels, "max_bytes": limits.bytes}
        backend = Backend(segmenter, TaskPictures(label_studio, token, folder, **most))
    hosts = allowed_hosts(host) | {name.lower() for name in allow}
    app = make_app(segmenter, hosts, limits, backend)
    with _listening(host, port) as listener:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        echo(f"{segmenter.backbone.name} answers at {address}/segment (description: {address}/openapi.json)")
        if backend is not None:
            echo(f"the backend for Label Studio is {address}/label-studio")
        echo("stop with Ctrl+C")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, timeout_keep_alive=5))
        server.run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    """A socket there. Raises OSError that names the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from error
    return listener
