"""Who may ask the page, and what a request may carry; without gradio and without a network."""

from __future__ import annotations

import asyncio
import json

import pytest

from clipseg_ws.web import guard
from clipseg_ws.web.guard import Guard, allowed_hosts, names_remote_file

HERE = {"host": "127.0.0.1:7860"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
REMOTE = json.dumps({"data": [{"path": "http://10.0.0.1/", "meta": {"_type": "gradio.FileData"}}]}).encode()


def ask(method="GET", path="/", body=b"", headers=None, kind="http", **options):
    """(status or close code, headers, body) of a guarded application that answers 200 with what reached it."""
    sent = []

    async def app(scope, receive, send):
        got = (await receive()).get("body", b"") if method == "POST" else b"<meta og:x>page"
        cors = [(b"access-control-allow-origin", b"*"), (b"x-frame-options", b"ALLOW"), (b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 200, "headers": cors})
        await send({"type": "http.response.body", "body": got})

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    listed = [(key.encode(), value.encode()) for key, value in (HERE | (headers or {})).items()]
    scope = {"type": kind, "method": method, "path": path, "headers": listed}
    asyncio.run(Guard(app, **options)(scope, receive, send))
    if sent[0]["type"] != "http.response.start":
        return sent[0]["code"], {}, b""
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:7860", "localhost:80", "LOCALHOST", "[::1]:7860"])
def test_loopback_names_are_served(host):
    assert ask(headers={"host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:7860", "", "10.0.0.1", "a@b", "[::1"]
)
def test_other_names_are_not(host):
    """A page of somebody else's may point its name here (DNS rebinding)."""
    assert ask(headers={"host": host})[0] == 403
    assert ask("POST", "/gradio_api/queue/join", b"{}", {"host": host})[0] == 403


def test_the_named_host_is_served_too():
    assert ask(headers={"host": "box.lan:7860"}, hosts=allowed_hosts("box.lan"))[0] == 200
    assert ask(headers={"host": "other.lan:7860"}, hosts=allowed_hosts("box.lan"))[0] == 403
    assert "localhost" in allowed_hosts("0.0.0.0")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://127.0.0.1", "x"])
def test_another_origin_is_refused(origin):
    assert ask("POST", "/gradio_api/queue/join", b"{}", {"origin": origin})[0] == 403
    assert ask(headers={"origin": origin})[0] == 403


def test_the_own_origin_is_taken():
    assert ask("POST", "/gradio_api/queue/join", b"{}", {"origin": "http://127.0.0.1:7860"})[0] == 200
    assert ask(headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})[0] == 200  # a link to the page
    assert ask(headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"})[0] == 403


@pytest.mark.parametrize(
    "path",
    ["/gradio_api/run/upload", "/gradio_api/call/upload", "/gradio_api/api/upload", "/gradio_api/call/v2/run",
     "/upload/x", "/gradio_api/component_server", "/gradio_api/process_recording", "/login",
     "/gradio_api/stream/1", "/"],
)  # fmt: skip
def test_handlers_are_not_called_by_name(path):
    for body, headers in ((REMOTE, {}), (b"{}", {}), (b"x" * 100, FORM)):
        assert ask("POST", path, body, headers)[0] == 403
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        assert ask(method, path)[0] == 403


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/cancel", "/upload"])
def test_a_remote_file_is_refused_by_what_is_carried(path):
    for kind in ("application/json", "text/plain", "application/octet-stream"):
        assert ask("POST", path, REMOTE, {"content-type": kind})[0] == 403
    assert ask("POST", "/gradio_api/queue/join", REMOTE, FORM)[0] == 403


def test_files_come_to_one_path_only_and_are_counted(tmp_path, monkeypatch):
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nfilename filename\r\n'
    assert ask("POST", "/gradio_api/upload", part * 4 + b"--b--", FORM)[::2] == (200, part * 4 + b"--b--")
    assert ask("POST", "/gradio_api/upload", part * 5, FORM)[0] == 413
    assert ask("POST", "/gradio_api/upload", b"x" * 30_200_000, FORM)[0] == 413
    assert ask("POST", "/gradio_api/queue/join", b"[" + b" " * 8_000_000 + b"]")[0] == 413
    monkeypatch.setattr(guard, "QUOTA", 1000)
    (tmp_path / "a").write_bytes(b"x" * 2000)
    assert ask("POST", "/gradio_api/upload", part, FORM, folder=tmp_path)[0] == 507
    (tmp_path / "a").unlink()
    assert ask("POST", "/gradio_api/upload", part, FORM, folder=tmp_path)[0] == 200


def test_the_headers_of_every_answer():
    for status, headers, _ in (ask(), ask("POST", "/gradio_api/reset", b"{}"), ask(headers={"host": "evil"})):
        assert status in (200, 403) and not [key for key in headers if key.startswith(b"access-control")]
        assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]
        assert headers[b"x-frame-options"] == b"DENY"
    assert ask()[2] == b"page"


def test_other_addresses_are_not_relayed_and_no_websocket_is_opened():
    assert ask(path="/gradio_api/file=https://example.org/a.png")[0] == 403
    assert ask(path="/gradio_api/proxy=https://example.org/a.png")[0] == 403
    assert ask(kind="websocket")[0] == 1008


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b'{"path": "/tmp/a.png"}', b'{"path": 7}', b"[[1], null]"])
def test_bodies_without_addresses(body):
    assert not names_remote_file(body)


@pytest.mark.parametrize("body", [REMOTE, b'[[{"x": {"path": " FILE:/x"}}]]', b"nonsense", b"[" * 100_000, b"\xff"])
def test_bodies_with_addresses_or_of_no_known_kind(body):
    assert names_remote_file(body)
