"""Encoded images to uint8 pixels of one size and channel count: Pillow on the host, once an image.

Whatever Pillow raises on a damaged file passes through; `sources` gives it the file's name.
"""

import hashlib
import io
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from infoutil_jax.data.walk import formats

Encoded = bytes | np.ndarray  # a file's bytes, or grey uint8 pixels [h, w] as they are

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_GREY = ("1", "L", "LA", "La", "I", "F")
_EXIF_ORIENTATION = 0x0112


class Header(NamedTuple):
    """What is known of an image before its pixels are decoded."""

    size: tuple[int, int]  # height, width, as displayed (EXIF orientation applied)
    colour: bool
    digest: bytes  # sha256 of the encoded bytes


def read_header(data: Encoded) -> Header:
    """Size, colour and digest of an encoded image, without decoding its pixels."""
    with _open(data) as image:
        width, height = image.size
        # Asking a PNG without an EXIF block for its EXIF would decode it.
        if "exif" in image.info and image.getexif().get(_EXIF_ORIENTATION, 1) >= 5:
            width, height = height, width
        return Header((height, width), _is_colour(image), hashlib.sha256(bytes(data)).digest())


def decode(data: Encoded, size: tuple[int, int], channels: int) -> UInt8[np.ndarray, "h w c"]:
    """Decodes to `size` = (height, width) and 1 (grey), 2 (+ alpha), 3 (RGB) or 4 (RGBA) channels.

    The EXIF orientation is applied, the short side resized with Pillow's antialiased BILINEAR
    filter (as torchvision does) and the centre kept; an image that has the size already keeps
    its pixels. 16-bit grey is scaled to 8 bits. Alpha that was not asked for is dropped, not
    blended.
    """
    with _open(data) as opened:
        image = ImageOps.exif_transpose(opened)
        image = _as_mode(image, _MODES[channels])
    height, width = size
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.array(image).reshape(height, width, channels)


def _open(data: Encoded) -> Image.Image:
    if isinstance(data, np.ndarray):
        return Image.fromarray(data)
    return Image.open(io.BytesIO(data), formats=formats())


def _is_colour(image: Image.Image) -> bool:
    if image.mode == "P" and (palette := image.getpalette()):
        red, green, blue = np.reshape(palette, (-1, 3)).T
        return not (np.array_equal(red, green) and np.array_equal(green, blue))
    return image.mode not in _GREY and not image.mode.startswith("I;16")


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; 8 or 16 bits would do")
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow would clip these at 255
        wide = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.mode == "LAB":
        image = image.convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the palette's transparent entries
    return image if image.mode == mode else image.convert(mode)
