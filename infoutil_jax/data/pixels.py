"""Encoded images to uint8 pixels of one size and channel count, on the host, once an image.

Whatever the readers raise on a damaged file passes through; `sources` gives it the file's name.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps

from infoutil_jax.data.rasters import Bands, Encoded, open_raster, picture, several_frames

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_GREY = ("1", "L", "LA", "La")
_EXIF_ORIENTATION = 0x0112
# What a PNG's orientation stands behind, before its pixels or after them.
_PNG_TURNS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")


class Header(NamedTuple):
    """What is known of an image before it is made into pixels of 8 bits."""

    size: tuple[int, int]  # height, width, as displayed (orientation applied)
    bands: int  # 1 grey, 3 colour, any other number as they are; alpha is not counted
    alpha: bool
    values: tuple[float, float] | None  # the lowest and highest; None for 8 bits
    frames: bool  # whether there are more than the first
    digest: bytes  # sha256 of the encoded bytes

    @property
    def picture(self) -> bool:
        """Whether it can be made grey or RGB, as a photograph can; else its bands are apart."""
        return self.bands in (1, 3)


@dataclass(frozen=True)
class View:
    """What every image of a set is made into.

    Attributes:
        size: (height, width).
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; of other bands the first ones.
        background: red, green and blue, 0 to 255, behind what is transparent.
        value_range: values of more than 8 bits that become 0 and 255.
    """

    size: tuple[int, int]
    channels: int
    background: tuple[int, int, int] = (255, 255, 255)
    value_range: tuple[float, float] = (0.0, 65535.0)


def read_header(data: Encoded) -> Header:
    """What is known of an encoded image; a picture of 8 bits is not decoded for it."""
    found, digest = open_raster(data), hashlib.sha256(bytes(data)).digest()
    if isinstance(found, Bands):
        height, width, bands = found.values.shape
        alpha, values = found.alpha is not None, _extent(found.values)
        return Header((height, width), bands, alpha, values, found.frames, digest)
    with found as image:
        size = image.size if _is_turned(image, data) else image.size[::-1]
        bands, alpha = 3 if _is_colour(image) else 1, image.has_transparency_data
        return Header(size, bands, alpha, None, several_frames(image), digest)


def decode(data: Encoded, view: View) -> UInt8[np.ndarray, "h w c"]:
    """Decodes to what `view` asks for.

    The orientation that EXIF or XMP tell is applied, the short side resized with Pillow's
    antialiased BILINEAR filter (as torchvision does) and the centre kept; an image that has the
    size already keeps its pixels. Alpha that is not asked for is blended on the background.
    """
    found = open_raster(data)
    if isinstance(found, Bands):
        values = eight_bits(found.values, view.value_range)
        if values.shape[2] not in (1, 3):
            bands = [
                _fitted(Image.fromarray(np.ascontiguousarray(values[..., band])), view.size)
                for band in range(view.channels)
            ]
            return np.concatenate(bands, axis=2)
        image = picture(values, found.alpha)
    else:
        image = _upright(found)
    return _fitted(_as_mode(image, _MODES[view.channels], view.background), view.size)


def _is_turned(image: Image.Image, data: Encoded) -> bool:
    """Whether `_upright` is going to exchange height and width."""
    if _EXIF_ORIENTATION in getattr(image, "tag_v2", ()):
        return False  # Pillow has exchanged a TIFF's already
    if image.format == "PNG" and not any(mark in bytes(data) for mark in _PNG_TURNS):
        return False  # asking it would decode it
    try:
        return image.getexif().get(_EXIF_ORIENTATION) in (5, 6, 7, 8)
    except Exception:  # it fails in as many ways as blocks are broken, and the pixels need not be
        return False


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # what is wrong with the pixels is told
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # likewise
        return image


def eight_bits(
    values: Shaped[np.ndarray, "h w bands"], value_range: tuple[float, float]
) -> UInt8[np.ndarray, "h w bands"]:
    """Values of any depth as 0 to 255; beyond the range they are clipped, NaN is the lowest."""
    if values.dtype == np.uint8:
        return values
    low, high = value_range
    shares = (np.clip(values.astype(np.float64), low, high) - low) / (high - low)
    return np.rint(np.nan_to_num(shares * 255, nan=0)).astype(np.uint8)


def _extent(values: np.ndarray) -> tuple[float, float] | None:
    if values.dtype == np.uint8:
        return None
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("none of its values is finite")
    return float(finite.min()), float(finite.max())


def _fitted(image: Image.Image, size: tuple[int, int]) -> UInt8[np.ndarray, "h w c"]:
    height, width = size
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.array(image).reshape(height, width, -1)


def _is_colour(image: Image.Image) -> bool:
    if image.mode == "P" and (palette := image.getpalette()):
        red, green, blue = np.reshape(palette, (-1, 3)).T
        return not (np.array_equal(red, green) and np.array_equal(green, blue))
    return image.mode not in _GREY


def _as_mode(image: Image.Image, mode: str, background: tuple[int, int, int]) -> Image.Image:
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    elif image.mode == "LAB":
        image = image.convert("RGB")
    if image.has_transparency_data:
        if image.mode not in ("LA", "RGBA"):
            image = image.convert("RGBA")  # one colour, or a palette's entries, are transparent
        if mode in ("L", "RGB") and image.getchannel("A").getextrema() != (255, 255):
            behind = Image.new("RGBA", image.size, (*background, 255))
            image = Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")
    return image if image.mode == mode else image.convert(mode)
