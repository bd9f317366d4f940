"""Label Studio's backend: its set-up, pictures, clicks; answers checked by Label Studio's own library where it is."""

from __future__ import annotations

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from drawn import scene
from PIL import Image

from clipseg_ws.adapters.label_studio import Backend, Setup, marks_of, read_setup
from clipseg_ws.adapters.label_studio_files import TaskPictures
from clipseg_ws.door import InputError
from clipseg_ws.output.formats.labelstudio import label_studio_config
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.weak.readers.brush import decode_brush

CONFIG = """<View><Image name="photo" value="$picture"/>
<KeyPointLabels name="click" toName="photo"><Label value="house"/><Label value="car, auto"/></KeyPointLabels>
<BrushLabels name="brush" toName="photo"><Label value="house"/><Label value="car, auto"/><Label value="ignore"/>
</BrushLabels></View>"""
LABELS = {"house": "house", "car, auto": "car"}  # label -> class


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(scene(3).image).save(buffer, format="PNG")
    return buffer.getvalue()


INLINE = f"data:image/png;base64,{base64.b64encode(png()).decode()}"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("nano", dtype="float32")


@pytest.fixture(scope="module")
def backend(segmenter) -> Backend:
    return Backend(segmenter, TaskPictures("http://localhost:8080"))


def masks(prediction) -> dict[str, np.ndarray]:
    return {r["value"]["brushlabels"][0]: decode_brush(r["value"]["rle"], (224, 224)) > 0 for r in prediction["result"]}


def task(address=INLINE, number=7):
    return {"id": number, "data": {"picture": address}}


# ---- the set-up ----------------------------------------------------------------------------------------------------


def test_setup():
    assert read_setup(CONFIG) == Setup(("house", "car, auto"), "brush", "photo", "picture")
    assert read_setup(CONFIG).vocabulary.synonyms == (("house",), ("car", "auto"))
    own = read_setup(label_studio_config(["cat", "dog"]))
    assert own == Setup(("cat", "dog"), "label", "image", "image")


@pytest.mark.parametrize("config, said", [
    ("<View>", "XML"),
    ('<View><Image name="a" value="$b"/></View>', "no BrushLabels for an Image"),
    ('<View><Image name="a" value="$b"/><BrushLabels name="c" toName="d"/></View>', "no BrushLabels for an Image"),
    ('<View><Image name="a" value="$b"/><BrushLabels name="c" toName="a"/></View>', "no Label that is a class"),
    ('<!DOCTYPE x [<!ENTITY a "b">]><View/>', "entities"),
])  # fmt: skip
def test_setups_that_cannot_be_used(config, said):
    with pytest.raises(InputError, match=said):
        read_setup(config)


# ---- answers -------------------------------------------------------------------------------------------------------


def test_names_become_brush_masks(backend, segmenter):
    first, second = backend.predict([task(), task(number=8)], CONFIG)
    want = segmenter(scene(3).image, read_setup(CONFIG).vocabulary)
    made = masks(first)
    shares = want.shares()
    assert set(made) == {label for label, name in LABELS.items() if shares[name]} != set()
    assert all(np.array_equal(made[label], want.mask(LABELS[label])) for label in made)
    assert first["model_version"].endswith("nano") and 0 <= first["score"] <= 1
    ids = [region["id"] for prediction in (first, second) for region in prediction["result"]]
    assert len(set(ids)) == len(ids)


def click(x, y, label="house", positive=1):
    return {"type": "keypointlabels", "is_positive": positive, "value": {"x": x, "y": y, "keypointlabels": [label]}}


def test_clicks_and_boxes_become_a_mask_of_their_class(backend):
    (prediction,) = backend.predict([task()], CONFIG, {"result": [click(50, 50), click(2, 2, positive=0)]})
    (mask,) = masks(prediction).values()
    assert list(masks(prediction)) == ["house"] and mask[112, 112] and not mask[4, 4]
    box = {"type": "rectanglelabels",
           "value": {"x": 10, "y": 20, "width": 30, "height": 40, "rectanglelabels": ["Car, auto"]}}  # fmt: skip
    (prediction,) = backend.predict([task()], CONFIG, {"result": [click(80, 80), box]})
    (mask,) = masks(prediction).values()
    rows, columns = np.nonzero(mask)
    assert list(masks(prediction)) == ["car, auto"]  # the newest
    assert columns.min() >= 22 and columns.max() <= 90 and rows.min() >= 44 and rows.max() <= 135


@pytest.mark.parametrize("drawn, said", [
    ({"type": "brushlabels", "value": {"brushlabels": ["house"]}}, "makes no mask; allowed: keypointlabels"),
    (click(1, 1, "cow"), r"'cow' is no brush label; allowed: house \| car, auto"),
    (click("a", 1), "x is 'a'; a number from 0 to 100"),
    (click(1, 200), "y is 200"),
])  # fmt: skip
def test_drawings_that_cannot_be_used(drawn, said):
    with pytest.raises(InputError, match=said):
        marks_of([drawn], read_setup(CONFIG), (224, 224))


def test_tasks_that_cannot_be_used(backend):
    with pytest.raises(InputError, match=r"task 7 has no picture under data\['picture'\]"):
        backend.predict([{"id": 7, "data": {"image": "a"}}], CONFIG)


def test_label_studio_takes_the_answers(backend):
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface(CONFIG)
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    (prediction,) = backend.predict([task()], CONFIG)
    assert interface.validate_prediction(prediction, return_errors=True) == []
    for region in prediction["result"]:
        pixels = brush.decode_rle(region["value"]["rle"]).reshape(224, 224, 4)[..., 3]
        assert np.array_equal(pixels > 0, masks(prediction)[region["value"]["brushlabels"][0]])


# ---- pictures ------------------------------------------------------------------------------------------------------


@pytest.fixture
def studio():
    """A server that gives out a picture to who has the token, and changes personal tokens for short ones."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Authorization")))
            self._send(200 if seen[-1][1] in ("Token old", "Bearer short") else 401, png())

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fits = self.path == "/api/token/refresh" and body == {"refresh": "a.b.c"}
            self._send(200 if fits else 401, b'{"access": "short"}')

        def _send(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("token, sent", [("old", "Token old"), ("a.b.c", "Bearer short")])
def test_pictures_of_label_studio_itself(studio, token, sent):
    url, seen = studio
    pictures = TaskPictures(url, token)
    for address in ("/data/upload/1/a.png", f"{url}/data/upload/1/a.png"):
        assert np.array_equal(np.asarray(pictures(address)), scene(3).image)
    assert seen == [("/data/upload/1/a.png", sent)] * 2


def test_a_wrong_token(studio):
    with pytest.raises(ValueError, match="401"):
        TaskPictures(studio[0], "wrong")("/data/upload/1/a.png")
    with pytest.raises(InputError, match="does not take the access token"):
        TaskPictures(studio[0], "x.y.z")("/data/upload/1/a.png")


@pytest.mark.parametrize("address", [
    "http://169.254.169.254/latest", "//evil.example/a.png", "file:///etc/passwd", "s3://bucket/a.png", "a.png",
    "http://localhost:8080.evil.example/a.png", "http://localhost:80801/a.png",
])  # fmt: skip
def test_other_addresses_are_not_fetched(address):
    with pytest.raises(InputError, match="is not fetched; pictures come from http://localhost:8080 only"):
        TaskPictures("http://localhost:8080")(address)


def test_files_of_its_local_storage(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a b.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    pictures = TaskPictures("http://localhost:8080", folder=tmp_path / "photos")
    assert pictures("/data/local-files/?d=a%20b.png").size == (224, 224)
    for name in ("../secret.png", "/../secret.png", "nothing.png", ""):
        with pytest.raises(InputError, match="is no file below"):
            pictures(f"/data/local-files/?d={name}")
    (tmp_path / "photos" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="is no file below"):
        pictures("/data/local-files/?d=link.png")


@pytest.mark.parametrize("address", ["data:image/png,abc", "data:image/png;base64,!", "data:image/png;base64,YWJj"])
def test_data_that_is_no_picture(address):
    with pytest.raises(InputError):
        TaskPictures("http://localhost:8080")(address)


def test_no_address():
    with pytest.raises(ValueError, match="no address of a Label Studio"):
        TaskPictures("localhost:8080")
