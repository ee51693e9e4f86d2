"""Reading pictures, the intensity rule, and fitting into the store."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageChops

from chiasm.errors import ImageError
from chiasm.formats.pixels import fit, read_image, read_picture
from chiasm.geometry import Geometry

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 255], [0, 0, 0], [10, 200, 90]]], np.uint8)
LUMA = np.rint(COLOURS @ np.array([0.299, 0.587, 0.114])).astype(int)


def save(picture: Pillow.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)
    return path


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.rint(127 + 60 * np.sin(y / 9) + 60 * np.cos(x / 7)).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_gray_files_keep_every_value(tmp_path: Path, suffix: str) -> None:
    pixels = read_image(save(Pillow.fromarray(RAMP), tmp_path / f"a.{suffix}"))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, RAMP)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_colour_becomes_luminance(tmp_path: Path, suffix: str) -> None:
    pixels = read_image(save(Pillow.fromarray(COLOURS), tmp_path / f"a.{suffix}"))
    np.testing.assert_allclose(pixels, LUMA, atol=1)


def test_colour_jpeg_is_its_luminance(tmp_path: Path) -> None:
    rgb = np.stack([smooth(64, 48), 255 - smooth(64, 48), smooth(64, 48)[::-1]], axis=-1)
    path = save(Pillow.fromarray(rgb), tmp_path / "a.jpg", quality=98, subsampling=0)
    np.testing.assert_allclose(read_image(path), rgb @ [0.299, 0.587, 0.114], atol=3)


def test_jpeg_stored_as_rgb_is_its_luminance(tmp_path: Path) -> None:
    rgb = np.stack([smooth(64, 48), 255 - smooth(64, 48), smooth(64, 48)[::-1]], axis=-1)
    path = save(Pillow.fromarray(rgb), tmp_path / "a.jpg", quality=98, keep_rgb=True)
    np.testing.assert_allclose(read_image(path), rgb @ [0.299, 0.587, 0.114], atol=3)


def test_palette_is_looked_up(tmp_path: Path) -> None:
    picture = Pillow.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L")
    picture = picture.convert("P")
    picture.putpalette([0, 0, 0, 200, 200, 200, 50, 50, 50])
    np.testing.assert_array_equal(read_image(save(picture, tmp_path / "a.png")), [[0, 200], [50, 200]])


def test_transparent_palette_entry_is_black(tmp_path: Path) -> None:
    picture = Pillow.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L").convert("P")
    picture.putpalette([90, 90, 90, 200, 200, 200, 50, 50, 50])
    path = save(picture, tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_image(path), [[0, 200], [50, 200]])


def test_alpha_lies_over_black(tmp_path: Path) -> None:
    rgba = np.array([[[200, 200, 200, 255], [200, 200, 200, 0]], [[200, 200, 200, 51], [0, 0, 0, 0]]], np.uint8)
    expected = [[200, 0], [40, 0]]
    np.testing.assert_array_equal(read_image(save(Pillow.fromarray(rgba), tmp_path / "a.png")), expected)
    la = Pillow.fromarray(rgba).convert("LA")
    np.testing.assert_array_equal(read_image(save(la, tmp_path / "b.png")), expected)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = np.array([[True, False, True], [False, True, True]])
    for suffix in ("png", "tif", "bmp"):
        pixels = read_image(save(Pillow.fromarray(bits), tmp_path / f"a.{suffix}"))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, bits * 255)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 1, 256], [4095, 40000, 65535]], np.uint16)
    pixels = read_image(save(Pillow.fromarray(values), tmp_path / f"a.{suffix}"))
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, values)


def test_big_endian_tiff_comes_in_native_order(tmp_path: Path) -> None:
    values = np.array([[0, 1, 256], [4095, 40000, 65535]], np.uint16)
    picture = Pillow.frombytes("I;16B", (3, 2), values.astype(">u2").tobytes())
    pixels = read_image(save(picture, tmp_path / "a.tif"))
    assert pixels.dtype == np.uint16
    assert pixels.dtype.isnative
    np.testing.assert_array_equal(pixels, values)


def test_float_tiff_is_kept(tmp_path: Path) -> None:
    values = np.array([[-1000.5, 0], [3, 2000]], np.float32)
    np.testing.assert_array_equal(read_image(save(Pillow.fromarray(values), tmp_path / "a.tif")), values)


def write_tiff(path: Path, values: np.ndarray, photometric: int, order: str = "<", bits: int = 0) -> Path:
    """A gray TIFF without compression, its tags written one by one."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if bits == 12:  # two values in three bytes
        a, b = values.ravel()[::2].astype(int), values.ravel()[1::2].astype(int)
        data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=1).astype(np.uint8).tobytes()
    height, width = values.shape
    depth = bits or 8 * values.dtype.itemsize
    tags = [(256, 4, width), (257, 4, height), (258, 3, depth), (259, 3, 1), (262, 3, photometric), (273, 4, 0)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, kind)]
    start = 8 + 2 + 12 * len(tags) + 4
    out = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, form, value in tags:
        value = start if tag == 273 else value
        out += struct.pack(f"{order}HHI", tag, form, 1)
        out += struct.pack(f"{order}I", value) if form == 4 else struct.pack(f"{order}HH", value, 0)
    path.write_bytes(out + struct.pack(f"{order}I", 0) + data)
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_a_tiff_whose_zero_is_white_is_no_negative(tmp_path: Path, dtype: type, order: str) -> None:
    """Film digitizers write so. A whole number turns about its bits, a fraction about its range."""
    values = np.array([[0, 1, 100], [200, 250, 255]], dtype)
    pixels = read_image(write_tiff(tmp_path / "a.tif", values, 0, order))
    top = 255 if dtype == np.float32 else np.iinfo(dtype).max
    np.testing.assert_array_equal(pixels, top - values.astype(np.float64))
    np.testing.assert_array_equal(read_image(write_tiff(tmp_path / "b.tif", values, 1, order)), values)


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 5, 2**31], [2**32 - 1, 7, 1]], np.uint32),
        np.array([[-(2**31), 5, 0], [2**31 - 1, 7, 1]], np.int32),
        np.array([[-128, 5, 0], [127, 7, -1]], np.int8),
        np.array([[-32768, 5, 0], [32767, 7, -1]], np.int16),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_gray_tiffs_keep_their_sign_whatever_their_depth_and_byte_order(
    tmp_path: Path, values: np.ndarray, order: str
) -> None:
    if values.dtype == np.int8 and order == ">":
        pytest.skip("one byte has no order")
    np.testing.assert_array_equal(read_image(write_tiff(tmp_path / "a.tif", values, 1, order)), values)


def test_twelve_bits_of_a_tiff_are_kept(tmp_path: Path) -> None:
    values = np.array([[0, 1, 4095, 17], [2048, 5, 300, 4000]], np.uint16)
    np.testing.assert_array_equal(read_image(write_tiff(tmp_path / "a.tif", values, 1, bits=12)), values)


def test_nan_of_a_float_picture_is_background_and_said(tmp_path: Path) -> None:
    values = np.array([[np.nan, 0.5], [-2, 3]], np.float32)
    image = read_picture(save(Pillow.fromarray(values), tmp_path / "a.tif"), name="x/a.tif")
    np.testing.assert_array_equal(image.pixels, [[-2, 0.5], [-2, 3]])
    assert [(note.where, note.taken) for note in image.notes] == [("x/a.tif", True)]
    with pytest.raises(ImageError, match="not all numbers"):
        read_picture(save(Pillow.fromarray(np.array([[np.inf, 1]], np.float32)), tmp_path / "b.tif"))


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp"])
def test_colour_that_is_turned_to_luminance_is_said(tmp_path: Path, suffix: str) -> None:
    gray = smooth(160, 144)
    colours = np.stack([gray, 255 - gray, gray[::-1]], axis=-1)
    image = read_picture(save(Pillow.fromarray(colours), tmp_path / f"a.{suffix}"))
    np.testing.assert_array_equal(image.pixels, read_image(tmp_path / f"a.{suffix}"))
    assert ["luminance" in note.reason for note in image.notes] == [True]
    same = save(Pillow.fromarray(np.stack([gray] * 3, axis=-1)), tmp_path / f"b.{suffix}")
    assert not read_picture(same).notes
    marked = np.stack([gray] * 3, axis=-1)
    marked[:4, :6] = [255, 0, 0]  # a small mark in colour is no other image
    assert not read_picture(save(Pillow.fromarray(marked), tmp_path / f"c.{suffix}")).notes


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_channels_may_be_kept_as_images_of_their_own(tmp_path: Path, suffix: str) -> None:
    path = save(Pillow.fromarray(COLOURS), tmp_path / f"a.{suffix}")
    image = read_picture(path, channels=3)
    np.testing.assert_array_equal(image.pixels, COLOURS.transpose(2, 0, 1))
    assert image.geometry.shape == COLOURS.shape[:2]
    assert not image.notes
    for picture, count in ((COLOURS, 2), (RAMP, 3)):
        path = save(Pillow.fromarray(picture), tmp_path / f"b.{suffix}")
        with pytest.raises(ImageError, match="another number of channels"):
            read_picture(path, channels=count)


def test_cmyk_of_adobe_and_of_others_shows_the_same_picture(tmp_path: Path) -> None:
    ink = np.zeros((32, 32, 4), np.uint8)  # no ink at all is white, full black ink is black
    ink[:, 16:, 3] = 255
    adobe = save(Pillow.fromarray(ink, "CMYK"), tmp_path / "adobe.jpg", quality=95)
    expected = np.where(np.arange(32) < 16, 255, 0) * np.ones((32, 1))
    np.testing.assert_allclose(read_image(adobe), expected, atol=4)

    # the same inks, stored upright and without Adobe's marker: what other writers make
    data = save(ImageChops.invert(Pillow.fromarray(ink, "CMYK")), tmp_path / "x.jpg", quality=95).read_bytes()
    start = data.index(b"\xff\xee")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    plain = tmp_path / "plain.jpg"
    plain.write_bytes(data[:start] + data[start + 2 + length :])
    np.testing.assert_allclose(read_image(plain), expected, atol=4)

    tiff = save(Pillow.fromarray(ink, "CMYK"), tmp_path / "a.tif")
    np.testing.assert_allclose(read_image(tiff), expected, atol=0)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int, upright) -> None:
    stored = smooth(24, 40)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = save(Pillow.fromarray(stored), tmp_path / f"a.{suffix}", exif=exif, quality=98)
    np.testing.assert_allclose(read_image(path), upright(stored), atol=3 if suffix == "jpg" else 0)


def test_what_is_no_image_says_what_it_is(tmp_path: Path) -> None:
    cases = {
        "empty.png": (b"", "0 bytes"),
        "text.png": (b"finding,view\npneumonia,PA\n", "text"),
        "gif.jpg": (b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "GIF"),
        "binary.bmp": (bytes(range(255, 100, -1)), "another kind"),
        "dicom.png": (bytes(128) + b"DICM" + bytes(40), "DICOM"),
    }
    for name, (data, got) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert got in caught.value.got, name
        assert "PNG" in caught.value.expected
        assert name in caught.value.where
    with pytest.raises(ImageError, match="not there"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="not there"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own words on a damaged TIFF directory
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_cut_file_is_an_error_or_the_whole_picture(tmp_path: Path, suffix: str) -> None:
    whole = save(Pillow.fromarray(smooth(40, 40)).convert("RGB"), tmp_path / f"whole.{suffix}")
    data, expected = whole.read_bytes(), read_image(whole)
    cut = tmp_path / f"cut.{suffix}"
    refused = 0
    for end in range(1, len(data), max(1, len(data) // 150)):
        cut.write_bytes(data[:end])
        try:
            pixels = read_image(cut)
        except ImageError:
            refused += 1
        else:
            np.testing.assert_array_equal(pixels, expected)
    assert refused > 100


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_zero_width_is_an_error(tmp_path: Path, suffix: str) -> None:
    data = bytearray(save(Pillow.fromarray(RAMP), tmp_path / f"a.{suffix}").read_bytes())
    if suffix == "png":
        import zlib

        data[16:20] = bytes(4)
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    elif suffix == "bmp":
        data[18:22] = bytes(4)
    else:
        at = int.from_bytes(data[4:8], "little") + 2  # the first entry of the directory is ImageWidth
        assert data[at : at + 2] == b"\x00\x01"
        data[at + 8 : at + 12] = bytes(4)
    (tmp_path / f"b.{suffix}").write_bytes(data)
    with pytest.raises(ImageError):
        read_image(tmp_path / f"b.{suffix}")


def test_several_pages_are_refused(tmp_path: Path) -> None:
    pages = [Pillow.fromarray(RAMP), Pillow.fromarray(RAMP[::-1])]
    path = save(pages[0], tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="2 pages"):
        read_image(path)


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Pillow.fromarray(np.zeros((40, 40), np.uint8)), tmp_path / "a.png")
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ImageError, match="too large"):
        read_image(path)


shapes_2d = st.tuples(st.integers(1, 90), st.integers(1, 90))
shapes_3d = st.tuples(st.integers(1, 24), st.integers(1, 24), st.integers(1, 24))
shapes = st.one_of(st.tuples(shapes_2d, shapes_2d), st.tuples(shapes_3d, shapes_3d))


@settings(max_examples=80, deadline=None)
@given(shapes=shapes, data=st.data())
def test_boxes_come_back_through_fit(shapes, data) -> None:
    original, target = shapes
    spacing = data.draw(st.one_of(st.just(()), st.tuples(*(st.floats(0.2, 8) for _ in original))))
    pixels = np.zeros(original, np.uint8)
    stored, geometry = fit(pixels, Geometry.identity(original, spacing), target)
    assert stored.shape == geometry.shape == target
    assert geometry.original_shape == original
    corner = st.tuples(st.floats(0, original[-1]), st.floats(0, original[-2]))
    boxes = np.array([data.draw(corner) + data.draw(corner) for _ in range(3)])
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    there = geometry.boxes_to_stored(boxes)
    assert (there >= -1e-9).all()
    assert (there <= np.array(target[-2:])[[1, 0, 1, 0]] + 1e-9).all()
    np.testing.assert_allclose(geometry.boxes_to_original(there), boxes, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(shapes=shapes)
def test_fit_fills_one_axis_keeps_proportions_and_pads_with_zeros(shapes) -> None:
    original, target = shapes
    stored, geometry = fit(np.full(original, 200, np.uint8), Geometry.identity(original), target)
    start = np.rint(geometry.to_stored(np.zeros(len(target)))).astype(int)
    stop = np.rint(geometry.to_stored(np.array(original, float))).astype(int)
    window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    expected = np.zeros(target, np.uint8)
    expected[window] = 200
    np.testing.assert_array_equal(stored, expected)
    inner = stop - start
    assert (inner == target).any()
    k = min(t / o for t, o in zip(target, original, strict=True))
    assert (np.abs(inner - np.maximum(1, k * np.array(original))) <= 0.5 + 1e-9).all()
    after = np.array(target) - stop
    assert ((after - start >= 0) & (after - start <= 1)).all()


def slow_resize(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Triangle filter by its definition, axis by axis: weights by the distance of pixel centres in target pixels."""
    result = pixels.astype(np.float64)
    for axis, (old, new) in enumerate(zip(pixels.shape, shape, strict=True)):
        weights = np.zeros((new, old))
        width = max(1.0, old / new)
        for i, j in itertools.product(range(new), range(old)):
            weights[i, j] = max(0.0, 1 - abs((i + 0.5) * old / new - (j + 0.5)) / width)
        weights /= weights.sum(axis=1, keepdims=True)
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    return result


@settings(max_examples=30, deadline=None)
@given(shapes=shapes, seed=st.integers(0, 1000), dtype=st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]))
def test_fit_is_the_triangle_filter(shapes, seed: int, dtype: type) -> None:
    original, target = shapes
    pixels = np.random.default_rng(seed).integers(0, 255, original).astype(dtype)
    stored, geometry = fit(pixels, Geometry.identity(original), target)
    assert stored.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    inner = tuple(round(s * n) for s, n in zip(geometry.scale, original, strict=True))
    start = tuple(round(o) for o in geometry.offset)
    window = tuple(slice(a, a + n) for a, n in zip(start, inner, strict=True))
    atol = 2 if dtype == np.uint8 else 1e-2  # eight bits are rounded after each of up to three axes
    np.testing.assert_allclose(stored[window], slow_resize(pixels, inner), atol=atol)


def test_fit_keeps_millimetres() -> None:
    pixels = np.zeros((20, 100, 100), np.uint8)
    _, geometry = fit(pixels, Geometry.identity(pixels.shape, (5.0, 1.0, 1.0)), (64, 64, 64))
    np.testing.assert_allclose(geometry.scale, (3.2, 0.64, 0.64))
    np.testing.assert_allclose(geometry.offset, 0)


def test_fit_composes_with_the_published_frame() -> None:
    """ChestX-ray14: boxes are in 1024 x 1024, the file has 512 x 512, the store 224 x 224."""
    geometry = Geometry.identity((1024, 1024)).resized((512, 512))
    stored, geometry = fit(np.zeros((512, 512), np.uint8), geometry, (224, 224))
    assert stored.shape == (224, 224)
    box = np.array([[128.0, 256.0, 512.0, 1024.0]])
    np.testing.assert_allclose(geometry.boxes_to_stored(box), box * 224 / 1024)
    np.testing.assert_allclose(geometry.boxes_to_original(box * 224 / 1024), box)


def test_a_lesion_stays_under_its_box() -> None:
    pixels = np.zeros((300, 200), np.uint8)
    pixels[90:150, 40:120] = 255
    stored, geometry = fit(pixels, Geometry.identity(pixels.shape), (96, 96))
    x_min, y_min, x_max, y_max = np.rint(geometry.boxes_to_stored(np.array([[40, 90, 120, 150]]))[0]).astype(int)
    inside = np.zeros_like(stored, bool)
    inside[y_min:y_max, x_min:x_max] = True
    np.testing.assert_array_equal(stored > 127, inside)


def test_fit_refuses_what_does_not_belong_together() -> None:
    with pytest.raises(ImageError, match="belong together"):
        fit(np.zeros((4, 4), np.uint8), Geometry.identity((4, 5)), (8, 8))
    with pytest.raises(ImageError, match="belong together"):
        fit(np.zeros((4, 4), np.uint8), Geometry.identity((4, 4)), (8, 8, 8))
