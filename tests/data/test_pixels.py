"""How an image file becomes pixels: every mode, depth and size."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from infoutil_jax.data.pixels import View, decode, read_header
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError

CIFAR = Path(__file__).parents[1] / "fixtures/cifar10"
PHOTOS = Path(__file__).parents[1] / "fixtures/imagenette"


def opened(path, **options):
    return open_source(f"folder:{path}", **options)


def pillow(path):
    return np.asarray(Image.open(path).convert("RGB"))


def ramp(low, high, dtype):
    return np.linspace(low, high, 32 * 32).reshape(32, 32).astype(dtype)


MODES = {
    "1": Image.fromarray(ramp(0, 255, np.uint8)).convert("1"),
    "L": Image.fromarray(ramp(0, 255, np.uint8)),
    "LA": Image.fromarray(ramp(0, 255, np.uint8)).convert("LA"),
    "I;16": Image.fromarray(ramp(0, 65535, np.uint16)),
    "P": Image.open(CIFAR / "cat/0000.jpg").quantize(16),
    "RGB": Image.open(CIFAR / "cat/0000.jpg"),
    "RGBA": Image.open(CIFAR / "cat/0000.jpg").convert("RGBA"),
    "CMYK": Image.open(CIFAR / "cat/0000.jpg").convert("CMYK"),
}


COLOUR = ("P", "RGB", "RGBA", "CMYK")
ALPHA = ("LA", "RGBA")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_every_mode_becomes_every_channel_count(tmp_path, mode, channels):
    suffix = "tif" if mode == "CMYK" else "png"
    for i, name in enumerate(("a/0", "a/1", "b/0", "b/1")):
        path = tmp_path / f"{name}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        MODES[mode].rotate(90 * i).save(path)
    if channels in (2, 4) and mode not in ALPHA:
        with pytest.raises(InputError, match=f"channels is {channels}, .* no alpha; 1 or 3 would"):
            opened(tmp_path, channels=channels)
        return
    source = opened(tmp_path, channels=channels)
    expected = channels or (3 if mode in COLOUR else 1)
    assert source.channels == expected
    image = source.train.image(0)
    assert image.dtype == np.uint8 and image.shape == (32, 32, expected)
    assert np.ptp(image[..., 0]) > 100, "contrast survives"
    if expected in (2, 4):
        np.testing.assert_array_equal(image[..., -1], 255)
    if mode in ("RGB", "RGBA") and expected in (3, 4):
        saved = tmp_path / source.train.ids[0]
        np.testing.assert_array_equal(image[..., :3], pillow(saved))


def test_a_palettes_transparency_survives(folder):
    image = Image.open(folder / "cat/0000.jpg").quantize(16)
    image.save(folder / "cat/9999.png", transparency=0)
    source = opened(folder, channels=4)
    i = source.train.ids.index("cat/9999.png")
    alpha = source.train.image(i)[..., 3]
    np.testing.assert_array_equal(alpha, np.where(np.asarray(image) == 0, 0, 255))


def test_exif_orientation_turns_pixels_and_size(folder):
    upright = np.asarray(Image.open(folder / "cat/0000.jpg"))[:20]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned 90 degrees clockwise
    for path in folder.glob("*/*.jpg"):
        path.unlink()
    for name in ("cat/0.png", "cat/1.png", "ship/0.png", "ship/1.png"):
        Image.fromarray(np.rot90(upright)).save(folder / name, exif=exif)
    source = opened(folder)
    assert source.image_size == (20, 32)
    np.testing.assert_array_equal(source.train.image(0), upright)


def with_orientation(ending, place, orientation):
    """An image of 12 by 20 pixels, encoded, whose orientation stands in `place`."""
    exif, file, text = Image.Exif(), io.BytesIO(), PngInfo()
    exif[0x0112] = orientation
    block = exif.tobytes()
    xmp = f'<rdf:Description tiff:Orientation="{orientation}"/>'
    if place == "raw profile":
        text.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{block.hex()}\n", zip=True)
    if place == "XMP":
        text.add_itxt("XML:com.adobe.xmp", xmp)
    extra = {
        "EXIF": {"exif": exif},
        "XMP": {"xmp": xmp.encode(), "tiffinfo": {700: xmp.encode()}},
        "tag and XMP": {"tiffinfo": {700: xmp.encode(), 274: orientation}},
    }.get(place, {})
    pixels = np.arange(240, dtype=np.uint8).reshape(12, 20)
    Image.fromarray(pixels).save(
        file, ending, **extra, **({"pnginfo": text} if ending == "png" else {})
    )
    data = file.getvalue()
    if place == "late chunk":
        chunk = b"eXIf" + block[6:]
        late = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        data = data[:-12] + late + data[-12:]
    return data


@pytest.mark.parametrize("orientation", [1, 3, 6, 8, 9])
@pytest.mark.parametrize(
    ("ending", "place"),
    [
        *[(ending, place) for ending in ("png", "jpeg", "webp") for place in ("EXIF", "XMP")],
        *[("png", "raw profile"), ("png", "late chunk"), ("tiff", "XMP"), ("tiff", "tag and XMP")],
    ],
)
def test_the_header_has_the_size_that_is_decoded(ending, place, orientation):
    data = with_orientation(ending, place, orientation)
    header = read_header(data)
    assert header.size == ((20, 12) if orientation in (6, 8) else (12, 20))
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("L"))
    np.testing.assert_array_equal(decode(data, View(header.size, 1))[..., 0], upright)


def test_a_png_without_orientation_is_not_decoded_for_its_header(monkeypatch):
    data = with_orientation("png", "", 1)
    monkeypatch.setattr(Image.Image, "getexif", lambda image: pytest.fail("it is decoded"))
    assert read_header(data).size == (12, 20)


def test_resizing_keeps_the_aspect_and_the_centre(folder):
    # Left and right thirds are black: a centre crop of the square sees the middle only.
    wide = np.zeros((60, 180, 3), np.uint8)
    wide[:, 60:120] = np.asarray(Image.open(folder / "cat/0000.jpg").resize((60, 60)))
    Image.fromarray(wide).save(folder / "cat/0000.png")
    source = opened(folder, image_size=30)
    split = source.train if "cat/0000.png" in source.train.ids else source.test
    image = split.image(split.ids.index("cat/0000.png"))
    middle = Image.fromarray(wide[:, 60:120]).resize((30, 30), Image.Resampling.BILINEAR)
    # At the two borders the filter reaches into the black.
    np.testing.assert_array_equal(image[:, 2:-2], np.asarray(middle)[:, 2:-2])
    assert opened(folder, image_size=(16, 24)).train.image(0).shape == (16, 24, 3)


def test_an_image_of_the_wanted_size_keeps_its_pixels():
    source = opened(PHOTOS, image_size=128)
    np.testing.assert_array_equal(source.train.image(0), pillow(PHOTOS / source.train.ids[0]))


@pytest.mark.parametrize(
    ("sides", "chosen"), [((20, 28), 32), ((60, 90, 100), 64), ((300, 400), 224)]
)
def test_auto_takes_the_largest_usual_size_the_median_image_has(folder, sides, chosen):
    photo = Image.open(next(PHOTOS.glob("train/church/*.jpg")))
    for path in folder.glob("*/*.jpg"):
        path.unlink()
    for name in ("cat", "ship"):
        for side in sides:
            photo.resize((side + 10, side)).save(folder / f"{name}/{side}.jpg")
    assert opened(folder, image_size="auto").image_size == (chosen, chosen)


def test_auto_leaves_a_common_size_alone(folder):
    assert opened(folder, image_size="auto").image_size == (32, 32)
    assert open_source("digits", image_size="auto").image_size == (8, 8)
