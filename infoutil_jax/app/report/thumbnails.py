"""Images as data URIs (host)."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

LOSSLESS = 32
"""Pixels a side up to which a picture is stored as it is."""


def data_uri(pixels: UInt8[np.ndarray, "height width channels"], most: int) -> str:
    """A picture that a browser shows: of bands that are no picture, the first three or one.

    Args:
        pixels: of any number of channels.
        most: pixels that its longer side has at most.
    """
    channels = pixels.shape[2]
    kept = {1: 1, 2: 2, 3: 3, 4: 4}.get(channels, 3)
    picture = Image.fromarray(pixels[..., 0] if kept == 1 else pixels[..., :kept])
    small = max(picture.size) <= LOSSLESS
    if max(picture.size) > most:
        picture.thumbnail((most, most), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    if small:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture = picture.convert("RGBA" if kept in (2, 4) else "RGB")
        picture.save(buffer, "WEBP", quality=75, method=4)
    kind = "png" if small else "webp"
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode()}"
