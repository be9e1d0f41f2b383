"""One picture: every kind of file as a person sees it; nothing damaged gives anything but Unreadable."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures_support import encode, noise
from PIL import Image

from attncli.data.images.reading import (
    FORMATS,
    Unreadable,
    grey_of,
    read_header,
    read_image,
    read_mask,
    read_size,
)
from attncli.data.images.shaping import Look, fit, resize, resize_mask


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_its_pixels(form):
    image = noise(20, 30)
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(image, form, **options)
    read = read_image(data, "rgb")
    assert read.shape == (20, 30, 3)
    assert read.dtype == np.uint8
    assert read_size(data) == (20, 30)
    if form in ("PNG", "BMP", "TIFF", "PPM", "WEBP"):
        assert (read == image).all()
    else:
        assert np.abs(read.astype(int) - image).mean() < 12
    assert read_image(data, "grey").shape == (20, 30, 1)


def test_from_a_file_as_from_bytes(tmp_path):
    data = encode(noise(5, 6))
    (tmp_path / "odd.name").write_bytes(data)
    assert (read_image(tmp_path / "odd.name") == read_image(data)).all()
    assert read_header(str(tmp_path / "odd.name")) == (5, 6, False, False)


def test_grey_stays_grey_unless_asked():
    image = noise(6, 7, 1)
    assert (read_image(encode(image)) == image).all()
    assert (read_image(encode(image), "rgb") == image).all()
    assert read_image(encode(image), "rgb").shape == (6, 7, 3)
    assert read_header(encode(image)).grey
    black_white = Image.fromarray(image[..., 0]).convert("1")
    assert set(np.unique(read_image(encode(black_white)))) <= {0, 255}
    colours = noise(6, 7, 3)
    assert (read_image(encode(colours), "grey") == grey_of(colours)).all()


def test_sixteen_bits_become_eight():
    values = np.array([[0, 1, 257], [65535, 32768, 65407]], np.uint16)
    data = encode(Image.fromarray(values))
    assert read_image(data)[..., 0].tolist() == [[0, 0, 1], [255, 128, 255]]
    assert read_image(data, "rgb").shape == (2, 3, 3)
    assert read_header(data).grey


@pytest.mark.parametrize("values", [np.full((2, 2), 0.5, np.float32), np.full((2, 2), 1 << 20, np.int32)])
def test_pixels_without_a_known_range_are_refused(values):
    with pytest.raises(Unreadable, match="32-bit pixels"):
        read_image(encode(Image.fromarray(values), "TIFF"))


def test_transparent_is_black():
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[..., :3] = 200
    clear[0, 0, 3] = 255
    clear[0, 1, 3] = 128
    assert read_image(encode(clear))[..., 0].tolist() == [[200, 100], [0, 0]]
    grey = Image.merge("LA", [Image.new("L", (2, 1), 90), Image.frombytes("L", (2, 1), bytes([255, 0]))])
    assert read_image(encode(grey))[..., 0].tolist() == [[90, 0]]
    assert read_image(encode(grey)).shape == (1, 2, 1)
    palette = Image.frombytes("P", (2, 1), bytes([0, 1]))
    palette.putpalette([9, 9, 9, 7, 7, 7])
    assert read_image(encode(palette, transparency=1))[..., 0].tolist() == [[9, 0]]


def test_cmyk_and_palettes_are_colours():
    image = Image.fromarray(noise(16, 16))
    cmyk = read_image(encode(image.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.astype(int) - np.asarray(image)).mean() < 12
    palette = read_image(encode(image.quantize(256)))
    assert palette.shape == (16, 16, 3)
    assert np.abs(palette.astype(int) - np.asarray(image)).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation, form):
    upright = noise(16, 24)
    exif = Image.Exif()
    exif[0x0112] = orientation
    held = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    data = encode(np.ascontiguousarray(held), form, exif=exif, quality=95)
    assert read_size(data) == (16, 24)
    read = read_image(data)
    assert read.shape == (16, 24, 3)
    assert np.abs(read.astype(int) - upright).mean() < 6
    assert Look("rgb", (4, 6)).read(data).shape == (4, 6, 3)


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 3), (n * 80, 0, 0)) for n in range(3)]
    for form in ("GIF", "WEBP", "PNG"):
        data = encode(frames[1], form, save_all=True, append_images=frames[2:], lossless=True)
        assert np.abs(read_image(data)[..., 0].astype(int) - 80).max() <= 2
        assert read_size(data) == (3, 4)


def test_a_jpeg_is_decoded_no_larger_than_needed():
    data = encode(resize(noise(50, 40), (400, 320)), "JPEG")
    assert read_image(data, least=(50, 40)).shape == (50, 40, 3)
    assert read_image(data, least=(51, 40)).shape == (100, 80, 3)
    whole, reduced = read_image(data), read_image(data, least=(100, 80))
    assert np.abs(resize(whole, (100, 80)).astype(int) - reduced).mean() < 4


def bomb(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"hello", "is no picture"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "HTML or SVG"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no picture"),
        (bomb(20_000, 10_000), "more than the 134 million pixels allowed"),
        (bomb(15_000, 10_000), "15000x10000 pixels, more than the 134 million allowed"),
        (bomb(2000, 2000), "cannot be decoded"),
    ],
)
def test_what_is_no_picture_says_why(data, why, tmp_path):
    with pytest.raises(Unreadable, match=why):
        read_image(data)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(Unreadable, match=why):
        read_image(tmp_path / "a.png")
    with pytest.raises(ValueError):
        read_mask(data)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(Unreadable, match="there is no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(Unreadable, match="is a folder"):
        read_size(tmp_path)


def test_pixels_over_the_limit_are_refused_by_the_header():
    data = encode(noise(20, 20))
    with pytest.raises(Unreadable, match="20x20 pixels"):
        read_header(data, most=399)
    assert read_size(data, most=400) == (20, 20)


def _damage(data, rng):
    kind = rng.integers(4)
    if kind == 0:
        return data[: rng.integers(len(data))]
    if kind == 1:
        flipped = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 30)):
            flipped[at] ^= 1 << int(rng.integers(8))
        return bytes(flipped)
    if kind == 2:
        at, size = rng.integers(len(data)), rng.integers(1, 200)
        return data[:at] + rng.bytes(int(size)) + data[at + size :]
    return data[: rng.integers(4, 40)] + rng.bytes(int(rng.integers(1, 400)))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "PPM"])
def test_damaged_files_are_pictures_or_unreadable(form):
    data = encode(noise(24, 17), form)
    reasons = []
    for seed in range(100):
        damaged = _damage(data, np.random.default_rng(seed))
        for read in (read_image, read_header, read_mask, Look("grey", (8, 8)).read):
            try:
                found = read(damaged)
            except Unreadable as error:
                reasons.append(error.reason)
            else:
                assert read is read_header or found.size
    assert len(reasons) > 60
    assert not any("\n" in reason for reason in reasons)


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_garbage_is_unreadable(data):
    with pytest.raises(Unreadable):
        read_image(data)


# Masks


def test_a_palette_mask_is_its_indices_not_its_colours():
    indices = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)
    mask = Image.fromarray(indices)
    shown = mask.copy()
    shown.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200] + [0] * 753)
    for image in (mask, shown):
        read = read_mask(encode(image))
        assert read.tolist() == indices.tolist()
        assert read.dtype == np.uint8
    assert read_mask(encode(shown, transparency=1)).tolist() == indices.tolist()


def test_masks_of_other_kinds():
    colours = noise(3, 4)
    assert (read_mask(encode(colours)) == colours).all()
    assert (read_mask(encode(np.dstack([colours, colours[..., :1]]))) == colours).all()
    wide = np.array([[0, 300, 65535]], np.uint16)
    assert read_mask(encode(Image.fromarray(wide))).tolist() == [[0, 300, 65535]]
    assert read_mask(encode(Image.fromarray(wide))).dtype == np.int32
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert read_mask(encode(bits)).tolist() == [[0, 1]]
    with pytest.raises(Unreadable, match="fractions"):
        read_mask(encode(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


# Shapes


@pytest.mark.parametrize("how", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(10, 30, 3), (30, 10, 1), (1, 50, 3), (7, 7, 3)])
def test_every_picture_fits(how, shape):
    image = noise(*shape)
    assert fit(image, (8, 6), how).shape == (8, 6, shape[2])


def test_fit_keeps_the_middle_or_all():
    image = np.zeros((4, 12, 1), np.uint8)
    image[:, 4:8] = 200
    assert (fit(image, (4, 4), "crop") == 200).all()
    padded = fit(image, (12, 12), "pad")
    assert (padded[4:8] == image).all()
    assert not padded[:4].any()
    assert not padded[8:].any()


def test_a_reduced_mask_has_no_new_classes():
    mask = np.random.default_rng(0).choice([0, 3, 255], (40, 30)).astype(np.uint8)
    assert set(np.unique(resize_mask(mask, (11, 7)))) <= {0, 3, 255}
    assert (resize_mask(mask, (80, 60))[::2, ::2] == mask).all()
    assert resize_mask(np.zeros((4, 4, 3), np.uint8), (2, 3)).shape == (2, 3, 3)


def test_room_for_cut_outs_keeps_shape_and_never_enlarges():
    look = Look("rgb", (10, 10), room=2.0)
    assert look.shaped(100, 200) == (20, 40)
    assert look.shaped(15, 200) == (15, 200)
    assert look.read(encode(noise(100, 200), "JPEG")).shape == (20, 40, 3)
    assert Look().read(encode(noise(5, 6))).shape == (5, 6, 3)
