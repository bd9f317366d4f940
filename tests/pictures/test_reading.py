"""Reading of every kind of file, damaged ones, limits, downloads."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipseg_ws.pictures.reading import ImageError, read_image, to_rgb
from clipseg_ws.pictures.sources import list_sources

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)  # H=6, W=9


def put(path: Path, array: np.ndarray = PICTURE, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    image = read_image(put(tmp_path / "a.png", exif=exif.tobytes()))
    assert image.mode == "RGB" and np.array_equal(np.asarray(image), np.rot90(PICTURE, -1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_does_not_cost_the_picture(tmp_path):
    path = put(tmp_path / "a.png", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff\x12\x01nonsense")
    assert np.array_equal(np.asarray(read_image(path)), PICTURE)


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    rgba[0, 0, 3], rgba[1, 1] = 0, (0, 0, 0, 51)
    image = np.asarray(read_image(put(tmp_path / "a.png", rgba)))
    assert image[0, 0].tolist() == [255] * 3 and image[1, 1].tolist() == [204] * 3
    assert np.array_equal(image[2:], PICTURE[2:])


def test_palette_with_and_without_transparency(tmp_path):
    indices = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    indices.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indices.save(tmp_path / "plain.png")
    indices.save(tmp_path / "clear.png", transparency=1)
    expected = np.array([[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]])
    assert np.array_equal(np.asarray(read_image(tmp_path / "plain.png")), expected)
    expected[:, 1] = 255
    assert np.array_equal(np.asarray(read_image(tmp_path / "clear.png")), expected)


def test_sixteen_bit_grey_is_scaled_not_stretched(tmp_path):
    values = np.array([[0, 257, 40 * 257, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        image = np.asarray(read_image(put(tmp_path / name, values)))
        assert image.tolist() == [[[0] * 3, [1] * 3, [40] * 3, [255] * 3]]


def test_float_and_32_bit_pictures_are_refused(tmp_path):
    with pytest.raises(ImageError, match="floating point"):
        read_image(put(tmp_path / "f.tif", np.zeros((2, 2), np.float32)))
    with pytest.raises(ImageError, match="from -1 to 70000"):
        read_image(put(tmp_path / "i.tif", np.array([[-1, 70000]], np.int32)))


def test_cmyk_grey_bilevel_and_animation(tmp_path):
    flat = Image.new("RGB", (16, 16), (200, 30, 60))
    flat.convert("CMYK").save(tmp_path / "c.jpg", quality=100)
    assert np.abs(np.asarray(read_image(tmp_path / "c.jpg")).astype(int) - [200, 30, 60]).max() <= 8
    for mode in ("L", "1"):
        flat.convert(mode, dither=Image.Dither.NONE).save(tmp_path / "g.png")
        assert read_image(tmp_path / "g.png").mode == "RGB"
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "x.gif").getpixel((2, 2)) == (255, 0, 0)


def test_bad_files_say_which_and_why(tmp_path):
    good = put(tmp_path / "a.jpg", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    cases = (("cut.jpg", "truncated"), ("text.jpg", "not an image"), ("empty.jpg", "empty"), ("no.jpg", "no such file"))
    for name, reason in cases:
        with pytest.raises(ImageError, match=rf"{name}.*{reason}"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="a folder, no regular file"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_picture_or_an_image_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("bad")
    suffix = data.draw(st.sampled_from(["png", "jpg", "gif", "tif", "webp", "bmp"]))
    content = bytearray(put(folder / f"a.{suffix}").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / f"b.{suffix}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        assert read_image(path, max_pixels=10**6).mode == "RGB"
    except ImageError as error:
        assert path.name in str(error)


def test_pixel_limit_is_ours_and_pillows_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow itself would refuse 54 pixels
    path = put(tmp_path / "a.png")
    assert read_image(path).size == (9, 6)
    with pytest.raises(ImageError, match=r"9 x 6 pixels.*max_pixels=53"):
        read_image(path, max_pixels=53)
    assert read_image(path, max_pixels=54).size == (9, 6)
    assert Image.MAX_IMAGE_PIXELS == 10


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.content
        self.server.agents.append(self.headers["User-Agent"])  # before the answer: the client does not wait for more
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/gone.png" else 200)
        self.send_header("Content-Length", str(len(content) + (5 if self.path == "/cut.png" else 0)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.content, server.agents = put(tmp_path / "served.png").read_bytes(), []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_url(server):
    root = f"http://127.0.0.1:{server.server_port}"
    source = list_sources(f"{root}/ä b.png?x=1")[0]
    assert str(source.relative) == "ä b" and np.array_equal(np.asarray(read_image(source)), PICTURE)
    assert server.agents[0].startswith("clipseg_ws/")
    with pytest.raises(ImageError, match="max_bytes=20"):
        read_image(f"{root}/a.png", max_bytes=20)
    with pytest.raises(ImageError, match="404"):
        read_image(f"{root}/gone.png")
    with pytest.raises(ImageError, match="moved"):
        read_image(f"{root}/moved")
    with pytest.raises(ImageError, match="cut"):
        read_image(f"{root}/cut.png", timeout=2)
    with pytest.raises(ImageError, match="only http"):
        read_image("file:///etc/hostname")


def test_sixteen_bits_are_rounded_to_the_nearest_of_eight():
    values = np.arange(0, 65536, 37, dtype=np.uint16).reshape(1, -1)
    got = np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0]
    assert got.tolist() == [round(int(v) / 257) for v in values[0]]  # v / 257 is never half way


def test_the_time_of_a_download_is_limited_as_a_whole():
    """A server that sends a byte now and then, in the headers too, never meets the library's own timeout."""

    def trickle():
        place, _ = listener.accept()
        with place, suppress(OSError):
            place.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not done.wait(0.05):
                place.sendall(b"a")

    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, daemon=True).start()
        start = time.monotonic()
        with pytest.raises(ImageError, match=r"longer than timeout=0\.3 s"):
            read_image(f"http://127.0.0.1:{listener.getsockname()[1]}/a.png", timeout=0.3)
        assert time.monotonic() - start < 20
        done.set()
