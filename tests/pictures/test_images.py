"""Sources, reading of every kind of file, pixels (golden), windows and stitching against slow plain oracles."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from conftest import golden_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipseg_ws.pictures import images
from clipseg_ws.pictures.images import (
    ImageError,
    Source,
    list_sources,
    read_image,
    resize_maps,
    stitch,
    target_size,
    to_image,
    to_pixels,
    window_boxes,
)

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)  # H=6, W=9


def put(path: Path, array: np.ndarray = PICTURE, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def names(sources: list[Source]) -> list[str]:
    return [str(source.relative) for source in sources]


# --- sources ---------------------------------------------------------------------------------------------------------


def test_folder_is_recursive_sorted_and_skips_hidden(tmp_path):
    for name in ("b.png", "a.v2.JPG", "sub/deep/c.png", ".hidden.png", ".cache/d.png", "notes.txt", "mask.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    sources = list_sources(tmp_path)
    assert names(sources) == ["a.v2", "b", "sub/deep/c"]
    assert sources[2] == Source(str(tmp_path / "sub/deep/c.png"), PurePosixPath("sub/deep/c"))
    assert list_sources(str(tmp_path)) == sources


def test_linked_folder_is_followed(tmp_path):
    put(tmp_path / "store" / "x.png")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "store")
    assert names(list_sources(tmp_path / "run")) == ["link/x"]


def test_glob_keeps_folders_below_its_fixed_part(tmp_path):
    for name in ("p/a/1.jpg", "p/b/2.jpg", "p/b/3.txt", "p/4.png", "q/5.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(list_sources(f"{tmp_path}/p/**/*.jpg")) == ["a/1", "b/2"]
    assert names(list_sources(f"{tmp_path}/p/b/*")) == ["2"]
    assert names(list_sources(f"{tmp_path}/[pq]/[0-9].*")) == ["p/4", "q/5"]


def test_a_folder_whose_name_looks_like_a_glob(tmp_path):
    put(tmp_path / "trip[1]" / "x.png")
    assert names(list_sources(tmp_path / "trip[1]")) == ["x"]


def test_list_file(tmp_path, monkeypatch):
    put(tmp_path / "lists/sub/a.png")
    put(tmp_path / "cwd/b.png")
    outside = put(tmp_path / "elsewhere/c.png")
    monkeypatch.chdir(tmp_path / "cwd")
    lines = f"\ufeff# comment\nsub/a.png\n\nb.png\n  {outside}  \nhttps://example.org/x/d%20e.jpg?size=2\ngone.png\n"
    (tmp_path / "lists/list.txt").write_text(lines, encoding="utf-8")
    sources = list_sources(tmp_path / "lists/list.txt")
    assert names(sources) == ["sub/a", "b", "c", "d e", "gone"]
    assert sources[1].location == "b.png" and sources[3].location.startswith("https://")
    with pytest.raises(ImageError, match=r"gone\.png.*no such file"):
        read_image(sources[4])


@pytest.mark.parametrize("text, error", [("# nothing\n", ValueError), ("no.jpg\nnope.jpg\n", FileNotFoundError)])
def test_list_file_without_pictures(tmp_path, text, error):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(error, match=r"l\.txt"):
        list_sources(tmp_path / "l.txt")


def test_missing_empty_and_wrong_sources(tmp_path):
    for missing in (tmp_path / "no.jpg", f"{tmp_path}/*.jpg", ""):
        with pytest.raises(FileNotFoundError, match="allowed: an image file, a folder"):
            list_sources(missing)
    with pytest.raises(ValueError, match="no pictures in folder"):
        list_sources(tmp_path)
    with pytest.raises(ValueError, match="only http"):
        list_sources("ftp://example.org/a.jpg")
    with pytest.raises(TypeError, match="got int"):
        list_sources([3])


def test_same_stem_keeps_the_suffix_and_does_not_depend_on_the_order(tmp_path):
    for name in ("x/a.jpg", "x/a.png", "x/b.jpg"):
        put(tmp_path / name)
    assert names(list_sources(tmp_path)) == ["x/a.jpg", "x/a.png", "x/b"]
    files = [tmp_path / "x/a.png", tmp_path / "x/a.jpg"]
    assert names(list_sources(files)) == ["a.png", "a.jpg"]
    assert names(list_sources(files[::-1])) == ["a.jpg", "a.png"]


def test_same_name_from_two_folders_gets_a_hash_of_its_place(tmp_path, monkeypatch):
    put(tmp_path / "one/a.jpg")
    put(tmp_path / "two/A.jpg")  # on a file system that ignores case these would meet as well
    first = list_sources([tmp_path / "one", tmp_path / "two"])
    second = list_sources([tmp_path / "two", tmp_path / "one", tmp_path / "one"])
    assert sorted(names(first)) == sorted(names(second)) and len(set(names(first))) == 2
    assert names(first)[0].startswith("a.jpg-") and len(names(first)[0]) == len("a.jpg-") + 12
    monkeypatch.chdir(tmp_path)
    assert sorted(names(list_sources(["two", "one"]))) == sorted(names(first))


def test_a_folder_that_looks_like_the_masks_of_a_picture():
    place = ["a.jpg", "a_masks/cat.png", "b_masks/cat.png", "A_Cutout/deep/x.png", "a_maskset/y.png"]
    sources = [Source(f"/photos/{name}", PurePosixPath(name).with_suffix("")) for name in place]
    expected = ["a.jpg", "a_masks/cat.png", "b_masks/cat", "A_Cutout/deep/x.png", "a_maskset/y"]
    assert names(list_sources(sources)) == expected


FILES = r"([abA](_masks|_cutout){0,2}/)?[ab](_overlay|_rle|_masks|\.jpg|\.png){0,2}\.(jpg|png)"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.from_regex(FILES, fullmatch=True), unique=True))
def test_results_of_two_sources_never_share_a_file(files):
    from clipseg_ws.output.formats import names_of
    from clipseg_ws.output.save import output_paths

    formats = names_of("picture")
    given_names = [Source(f"/photos/{name}", PurePosixPath(name).with_suffix("")) for name in files]
    outputs = [path for s in list_sources(given_names) for path in output_paths("out", s.relative, formats)]
    assert len(set(outputs)) == len(outputs) == len(files) * len(formats)
    assert not any(outer in outputs for path in outputs for outer in path.parents)


# --- reading ---------------------------------------------------------------------------------------------------------


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
    with pytest.raises(ImageError, match="directory"):
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


def test_to_image():
    assert np.array_equal(np.asarray(to_image(PICTURE)), PICTURE)
    assert np.array_equal(np.asarray(to_image(PICTURE[:, ::-1])), PICTURE[:, ::-1])
    assert np.array_equal(np.asarray(to_image(PICTURE[..., 0]))[..., 2], PICTURE[..., 0])
    image = Image.fromarray(PICTURE)
    assert to_image(image) is not image and to_image(image).tobytes() == image.tobytes()
    for wrong, match in (
        (PICTURE / 255, "float64"),
        (PICTURE.transpose(2, 0, 1), r"\[3, 6, 9\]"),
        (np.zeros((0, 4), np.uint8), r"\[0, 4\]"),
        (torch.zeros(3, 4, 4), "permute"),
        (7, "got int"),
    ):
        with pytest.raises(ImageError, match=match):
            to_image(wrong)


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", golden_cases("clip_es"))
def test_golden_pixels(case, golden, golden_manifest):
    entry, tensors = golden_manifest[case], golden(case)
    p = entry["parameters"]
    image = to_image(tensors["image_rgb"].numpy())
    pixels = to_pixels(image, patch_size=p["patch"], mean=p["mean"], std=p["std"])
    tolerance = entry["tensors"]["pixels"]["tolerance"]
    assert tolerance["rule"] == "max_abs"
    torch.testing.assert_close(pixels[None], tensors["pixels"], atol=tolerance["value"], rtol=0)


@pytest.mark.parametrize("case", golden_cases("slide"))
def test_golden_resize(case, golden, golden_manifest):
    entry, tensors = golden_manifest.get(case, {}), golden(case)
    if not {"logits_windows_mean", "logits_resized"} <= tensors.keys():
        pytest.skip("this case does not hold both sizes")
    resized = resize_maps(tensors["logits_windows_mean"][None], tuple(entry["parameters"]["original_size"]))
    tolerance = entry["tensors"]["logits_resized"]["tolerance"]
    torch.testing.assert_close(resized[0], tensors["logits_resized"], atol=tolerance["value"], rtol=0)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((500, 375, 16), (384, 512)),
        ((512, 384, 16), (384, 512)),
        ((1, 17, 16), (32, 16)),
        ((500, 375, 16, 336), (336, 448)),
        ((2048, 1024, 16, 336, 448), (224, 448)),  # the long side decides
        ((1000, 300, 14, None, 500), (154, 504)),  # long side alone only shrinks
        ((100, 30, 14, None, 500), (42, 112)),
        ((375, 500, 1, 336), (448, 336)),  # patch 1: the exact size, as mmcv rounds
    ],
)
def test_target_size(arguments, expected):
    assert target_size(*arguments) == expected


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from([14, 16, 32]),
    st.none() | st.integers(1, 800),
    st.none() | st.integers(1, 2048),
    st.none() | st.integers(1, 3000),
)
def test_target_size_properties(width, height, patch, short, long, most):
    h, w = target_size(width, height, patch, short, long, most)
    assert h % patch == w % patch == 0 and min(h, w) > 0
    if long is not None:
        assert max(h, w) < long + patch + 1
    if most is not None:
        assert (h // patch) * (w // patch) <= most
    elif short is None and long is None:
        assert 0 <= h - height < patch and 0 <= w - width < patch


def test_max_patches_keeps_the_aspect():
    assert target_size(4000, 3000, 16, max_patches=2304) == (41 * 16, 55 * 16)


def test_wrong_sizes_and_interpolation_are_errors():
    with pytest.raises(ValueError, match="short_side=0"):
        target_size(5, 5, 16, 0)
    with pytest.raises(ValueError, match="nearest, bilinear, bicubic, lanczos"):
        to_pixels(Image.new("RGB", (4, 4)), patch_size=4, mean=(0, 0, 0), std=(1, 1, 1), interpolation="cubic")


def test_pixels_of_a_fitting_picture_are_exact():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    pixels = to_pixels(Image.fromarray(PICTURE), patch_size=3, mean=mean, std=std)
    expected = ((PICTURE / 255.0 - mean) / std).transpose(2, 0, 1)
    assert pixels.dtype == torch.float32 and pixels.shape == (3, 6, 9)
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)


# --- windows ---------------------------------------------------------------------------------------------------------


def plain_boxes(height: int, width: int, crop: int, stride: int) -> list[tuple[int, int, int, int]]:
    """The protocol word by word, with loops."""
    boxes = []
    for i in range(max(height - crop + stride - 1, 0) // stride + 1):
        for j in range(max(width - crop + stride - 1, 0) // stride + 1):
            y1, x1 = min(i * stride + crop, height), min(j * stride + crop, width)
            boxes.append((max(y1 - crop, 0), y1, max(x1 - crop, 0), x1))
    return boxes


geometry = st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40)).filter(
    lambda g: g[3] <= g[2]
)


@settings(deadline=None)
@given(geometry)
def test_windows_cover_everything_and_stay_inside(shape):
    height, width, crop, stride = shape
    boxes = window_boxes((height, width), crop, stride)
    assert boxes == plain_boxes(*shape) and len(set(boxes)) == len(boxes)
    covered = np.zeros((height, width), bool)
    for y0, y1, x0, x1 in boxes:
        assert 0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width
        assert (y1 - y0, x1 - x0) == (min(crop, height), min(crop, width))
        covered[y0:y1, x0:x1] = True
    assert covered.all()


def test_known_windows():
    assert window_boxes((64, 100), 64, 32) == [(0, 64, 0, 64), (0, 64, 32, 96), (0, 64, 36, 100)]
    assert window_boxes((40, 64), 64, 32) == [(0, 40, 0, 64)]
    with pytest.raises(ValueError, match="stride=5, crop=4"):
        window_boxes((10, 10), 4, 5)


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(1, 12), st.integers(1, 15), st.integers(1, 9), st.integers(1, 9)).filter(
    lambda g: g[3] <= g[2]))  # fmt: skip
def test_stitch_against_a_slow_oracle(shape):
    height, width, crop, stride = shape
    boxes = window_boxes((height, width), crop, stride)
    generator = torch.Generator().manual_seed(height * width)
    windows = [torch.randn(2, 3, b[1] - b[0], b[3] - b[2], generator=generator) for b in boxes]
    result = stitch(iter(windows), boxes, (height, width))
    for y in range(height):
        for x in range(width):
            over = [w[:, :, y - b[0], x - b[2]] for w, b in zip(windows, boxes, strict=True)
                    if b[0] <= y < b[1] and b[2] <= x < b[3]]  # fmt: skip
            torch.testing.assert_close(result[:, :, y, x], torch.stack(over).mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(stitch(torch.stack(windows), boxes, (height, width)), result)


def test_stitch_dtype_and_errors():
    boxes = window_boxes((4, 6), 4, 2)
    windows = [torch.full((2, 1, 4, 4), 0.1, dtype=torch.bfloat16)] * 2
    assert stitch(windows, boxes, (4, 6)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"shorter|longer"):
        stitch(windows[:1], boxes, (4, 6))
    with pytest.raises(ValueError, match=r"window 0 .*\[B,T,4,4\]"):
        stitch([torch.zeros(2, 1, 3, 4)] * 2, boxes, (4, 6))
    with pytest.raises(ValueError, match="8 of 4 x 6"):
        stitch(windows[:1], boxes[:1], (4, 6))


def test_resize_maps_against_numpy_interpolation():
    maps = torch.rand(2, 3, 4, 5)
    resized = resize_maps(maps, (7, 11))
    y = np.clip((np.arange(7) + 0.5) * 4 / 7 - 0.5, 0, 3)
    x = np.clip((np.arange(11) + 0.5) * 5 / 11 - 0.5, 0, 4)
    rows = np.stack([np.interp(y, range(4), column) for column in maps[1, 2].numpy().T], axis=1)
    expected = np.stack([np.interp(x, range(5), row) for row in rows])
    np.testing.assert_allclose(resized[1, 2].numpy(), expected, atol=1e-6)
    assert resize_maps(torch.rand(2, 0, 4, 5), (7, 11)).shape == (2, 0, 7, 11)


def test_images_offers_what_sources_holds():
    assert images.Source is Source and images.list_sources is list_sources
