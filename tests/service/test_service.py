"""The HTTP service by FastAPI's test client: answers, errors in JSON, limits, the queue, who may ask."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("multipart", reason="the extra serve is not installed")
pytest.importorskip("pycocotools")
from drawn import scene
from fastapi.testclient import TestClient

from clipseg_ws.door.runs import decode_runs
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.service.app import make_app
from clipseg_ws.service.gate import Gate, Limits
from clipseg_ws.web.guard import allowed_hosts

NAMES = "house; tree; car"
HERE = "http://127.0.0.1:8765"


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


PICTURE = png(scene(3).image)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("nano", dtype="float32")


def client(segmenter, limits=None, **more) -> TestClient:
    app = make_app(segmenter, allowed_hosts("127.0.0.1"), limits, **more)
    return TestClient(app, base_url=HERE, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def service(segmenter) -> TestClient:
    return client(segmenter)


def ask(service, data=PICTURE, **fields):
    return service.post("/segment", files={"image": ("a.png", data, "image/png")}, data=fields)


def test_json_with_masks(service, segmenter):
    answer = ask(service, classes=NAMES)
    assert answer.status_code == 200
    made, want = answer.json(), segmenter(scene(3).image, NAMES)
    assert (made["width"], made["height"], made["names"]) == (224, 224, ["house", "tree", "car"])
    assert [thing["name"] for thing in made["objects"]] == [box.name for box in want.boxes()] != []
    labels = np.zeros((224, 224), int)
    for thing in made["objects"]:
        mask = decode_runs(thing["rle"], (224, 224)) > 0
        labels[mask] = thing["label"]
        assert thing["pixels"] == mask.sum() and 0 <= thing["confidence"] <= 1
    assert np.array_equal(labels, want.labels)


def test_pictures(service, segmenter):
    want = segmenter(scene(3).image, NAMES)
    labels = Image.open(io.BytesIO(ask(service, classes=NAMES, format="png").content))
    assert labels.mode == "P" and np.array_equal(np.asarray(labels), want.labels)
    shown = ask(service, classes=NAMES, format="overlay")
    assert shown.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(shown.content)).convert("RGB").tobytes() == want.overlay().tobytes()


def test_tags_and_marks(service, segmenter):
    tags = ask(service, tags="house; tree").json()
    assert tags["setting"] == "weak" and {thing["name"] for thing in tags["objects"]} == {"house", "tree"}
    found = ask(service, classes=NAMES, points='[["house", 100, 100], ["background", 3, 3]]').json()
    assert [thing["name"] for thing in found["objects"]] == ["house"]
    mask = decode_runs(found["objects"][0]["rle"]) > 0
    assert mask[100, 100] and not mask[3, 3]
    boxed = ask(service, classes=NAMES, boxes='[["car", 10, 20, 60, 70]]').json()
    (car,) = boxed["objects"]
    assert car["name"] == "car" and car["box"][0] >= 10 and car["box"][2] <= 60


def test_unknown_words_are_said(service):
    assert "'stethoscope' is not among them" in ask(service, classes="stethoscope; house").json()["warnings"][0]


@pytest.mark.parametrize("fields, data, said", [
    ({"classes": ";"}, b"no picture", "cannot read 'a.png'"),
    ({"classes": "cat", "format": "gif"}, PICTURE, "allowed: json, png, overlay"),
    ({"classes": "../secret.txt"}, PICTURE, "looks like a file"),
    ({"classes": "; ".join(f"c{i}" for i in range(9))}, PICTURE, "9 classes; at most 5 are taken"),
    ({"tags": "; ".join(f"c{i}" for i in range(9))}, PICTURE, "9 tags; at most 5 are taken"),
    ({"classes": "house", "points": "{"}, PICTURE, "points: no JSON"),
    ({"classes": "house", "points": '[["house", 1]]'}, PICTURE, "is no name with 2 numbers"),
    ({"classes": "house", "boxes": '[["house", 1, 2, 3, NaN]]'}, PICTURE, "is no name with 4 numbers"),
    ({"classes": "house", "points": '[["cow", 1, 2]]'}, PICTURE, "cow"),
    ({"classes": "house"}, png(np.zeros((120, 200, 3), np.uint8)), "max_pixels=20000"),
])  # fmt: skip
def test_errors_are_json(segmenter, fields, data, said):
    limits = Limits(pixels=20_000 if "max_pixels" in said else 64_000_000, names=5)
    answer = ask(client(segmenter, limits), data, **fields)
    assert answer.status_code == 400 and list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


def test_other_errors(service):
    assert service.post("/segment", data={"classes": "cat"}).json() == {"error": "image: Field required"}
    missing = service.get("/nothing")
    assert missing.status_code == 404 and missing.json() == {"error": "GET /nothing: Not Found"}
    answer = ask(client(None), classes="house")
    assert answer.status_code == 500 and "AttributeError" in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_bytes(segmenter):
    small = client(segmenter, Limits(bytes=1000))
    answer = ask(small, bytes(5000), classes="house")
    assert answer.status_code == 413 and "at most 1000 are taken" in answer.json()["error"]

    def drip():
        yield from [b"x" * 600] * 3

    assert small.post("/segment", content=drip()).status_code == 413  # no length was told


def test_who_may_ask(service):
    assert service.get("/health", headers={"host": "evil.example"}).status_code == 403
    answer = service.post("/segment", headers={"origin": "http://evil.example"})
    assert answer.status_code == 403 and answer.json()["error"].startswith("another site's page asks")


def test_description(service):
    description = service.get("/openapi.json").json()
    fields = description["components"]["schemas"]["Body_segment_segment_post"]["properties"]
    assert set(fields) == {"image", "classes", "tags", "points", "boxes", "format"}
    assert set(description["paths"]["/segment"]["post"]["responses"]) >= {"200", "400", "413", "422", "503"}
    assert service.get("/docs").status_code == 404  # that page loads scripts from elsewhere
    about = service.get("/about").json()
    assert about["model"] == "nano" and "house" in about["known_names"] and about["limits"]["names"] == 300


def test_queue(segmenter, monkeypatch):
    from clipseg_ws.service import app as module

    begun, go, inside, most = threading.Event(), threading.Event(), [], []

    def slow(*args):
        inside.append(1)
        most.append(len(inside))
        begun.set()
        assert go.wait(20)
        inside.pop()
        raise ValueError("done")

    monkeypatch.setattr(module, "answer", slow)
    with client(segmenter, Limits(waiting=2)) as busy:
        answers = []
        first = [threading.Thread(target=lambda: answers.append(ask(busy, classes="house"))) for _ in range(2)]
        first[0].start()
        assert begun.wait(20)
        first[1].start()
        gate = busy.app.middleware_stack
        while not isinstance(gate, Gate):
            gate = gate.app
        for _ in range(2000):
            if gate.inside == 2:  # the second one waits
                break
            time.sleep(0.01)
        full = ask(busy, classes="house")
        assert full.status_code == 503 and full.headers["retry-after"] == "2" and "ask again" in full.json()["error"]
        assert busy.get("/health").status_code == 200  # it is up, only busy
        go.set()
        for thread in first:
            thread.join()
        assert [answer.json() for answer in answers][:2] == [{"error": "done"}] * 2
        assert max(most) == 1  # one at a time
        assert ask(busy, classes="house").status_code == 400  # places are free again


def test_limits_are_numbers():
    with pytest.raises(ValueError, match="limit names=0; more than 0"):
        Limits(names=0)
