"""Encoded images as they are stored: pictures of 8 bits, or bands of any depth and number.

Of a file with several frames or pages the first is taken. Nothing is unpickled.
"""

import io
import math
import re
import sys
import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8, UInt32
from PIL import Image, ImageOps

from infoutil_jax.data.formats import formats
from infoutil_jax.errors import InputError

MOST_PIXELS = 2**27
"""Of an image that is decoded; Pillow would warn of fewer and refuse more."""
TOO_LARGE = f"it has more than {MOST_PIXELS} pixels, the most that are decoded"
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the limit is ours

Encoded = bytes | np.ndarray  # a file's bytes, or pixels [h, w] or [h, w, bands] as they are

# Pillow unpacks 16 bits a colour to their high byte, and in the other byte order to their low one.
_OTHER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
# What libtiff unpacks is in the machine's order, as Pillow knows of unsigned 16 bits alone.
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
# PGM and PPM, of text or bytes: kind, width, height, highest value, after blanks and comments.
_NETPBM = re.compile(rb"P([2356])" + rb"\s+(?:#[^\n]*\n\s*)*(\d{1,9})" * 3 + rb"\s")
_COMMENT = re.compile(rb"#[^\r\n]*")
_BASE = {0: 1, 1: 1, 2: 3, 3: 1, 6: 3, 8: 3}  # TIFF: samples of each kind of picture
_PALETTE, _CMYK, _SIGNED = 3, 5, 2
_ORIENTATION, _BITS, _PHOTOMETRIC, _SAMPLES = 274, 258, 262, 277
_PLANES, _EXTRA, _FORMAT = 284, 338, 339


class Bands(NamedTuple):
    """Pixels of other depths than 8 bits, or of other bands than a picture's one or three."""

    values: Shaped[np.ndarray, "h w bands"]
    alpha: UInt8[np.ndarray, "h w"] | None = None
    frames: bool = False


def open_raster(data: Encoded) -> Image.Image | Bands:
    """A picture of 8 bits, not decoded yet; or bands, upright.

    Raises:
        ValueError, OSError: and whatever else Pillow, NumPy and tifffile raise on a damaged file.
    """
    if isinstance(data, np.ndarray):
        return of_array(data)
    if data.startswith(b"\x93NUMPY"):
        return of_array(np.lib.format.read_array(io.BytesIO(data), allow_pickle=False))
    if data.startswith(b"MM\0+"):  # a BigTIFF of big-endian numbers, which Pillow reads wrongly
        return _by_tifffile(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0"):
        return _open_tiff(data)
    if (netpbm := _NETPBM.match(data)) and int(netpbm[4]) > 255:
        kind, width, height = (int(netpbm[part]) for part in (1, 2, 3))
        return _netpbm(data[netpbm.end() :], kind, (height, width, 3 if kind in (3, 6) else 1))
    image = _open(data)
    if image.format == "FITS":
        return _fits(image, data)
    return _wide(image, data) if _is_wide(image) else image


def of_array(array: np.ndarray) -> Image.Image | Bands:
    """Pixels [h, w], [h, w, bands], or [bands, h, w] where the first axis is the shortest.

    Of 8 bits, one band is grey and three are RGB, as in a picture; more are bands.
    """
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3) or not array.size:
        raise ValueError(
            f"the array is {array.dtype} {list(array.shape)}; it should be numbers of shape "
            "[height, width] or [height, width, bands]"
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.ndim == 2:
        array = array[..., None]
    elif array.shape[0] < min(array.shape[1:]):
        array = np.moveaxis(array, 0, -1)
    bands = Bands(np.ascontiguousarray(array))
    return picture(bands.values) if _is_picture(bands) else bands


def picture(
    values: UInt8[np.ndarray, "h w bands"], alpha: UInt8[np.ndarray, "h w"] | None = None
) -> Image.Image:
    """One band as a grey picture, three as one in colour, with alpha where there is some."""
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    return image


def several_frames(image: Image.Image) -> bool:
    """Whether there are frames beyond the first."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # damage beyond the first frame is no damage to us
        return False


def _is_picture(bands: Bands) -> bool:
    return bands.values.dtype == np.uint8 and bands.values.shape[2] in (1, 3)


def _open(data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=formats())
    except Image.DecompressionBombError:
        raise ValueError(TOO_LARGE) from None
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(TOO_LARGE)
    return image


def _raw_mode(image: Any) -> str:
    """How Pillow is going to unpack the pixels."""
    arguments = image.tile[0].args if image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _is_wide(image: Image.Image) -> bool:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return True
    return image.mode in ("RGB", "RGBA") and ";16" in _raw_mode(image)


def _wide(image: Any, data: bytes) -> Bands:
    """The values of an image of more than 8 bits, which Pillow would cut to 8 or clip."""
    frames, raw, key = several_frames(image), _raw_mode(image), image.info.get("transparency")
    if image.mode in ("RGB", "RGBA"):
        values = _sixteen_bits(data, raw)
    else:
        if raw in _NATIVE and image.tile[0].codec_name == "libtiff":
            _unpack_as(image, _NATIVE[raw])
        values = np.asarray(ImageOps.exif_transpose(image))[..., None]
        if raw == "I;32N":  # a TIFF's unsigned integers, which Pillow takes for signed
            values = values.view(np.uint32)
    alpha = None
    if values.shape[2] in (2, 4):
        alpha, values = ((values[..., -1] + 128) // 257).astype(np.uint8), values[..., :-1]
    elif key is not None:  # PNG: all pixels of this value are transparent
        alpha = np.where((values == np.array(key)).all(axis=2), 0, 255).astype(np.uint8)
    return Bands(values, alpha, frames)


def _sixteen_bits(data: bytes, raw: str) -> UInt32[np.ndarray, "h w bands"]:
    if raw == "LA;16B":  # has as many bytes a pixel as RGBA of 8 bits
        both = _read_as(data, "RGBA")
        return np.asarray(both[..., 0::2] * 256 + both[..., 1::2])
    bands, _, order = raw.partition(";")
    return np.asarray(_read_as(data, raw) * 256 + _read_as(data, f"{bands};{_OTHER[order]}"))


def _read_as(data: bytes, raw: str) -> UInt32[np.ndarray, "h w bands"]:
    """The bytes that Pillow unpacks when it is told how."""
    image = _open(data)
    _unpack_as(image, raw)
    return np.asarray(ImageOps.exif_transpose(image)).astype(np.uint32)


def _unpack_as(image: Any, raw: str) -> None:
    """Tells Pillow how to unpack the pixels, which it is yet to decode."""
    image.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
        for tile in image.tile
    ]


def _netpbm(data: bytes, kind: int, shape: tuple[int, int, int]) -> Bands:
    """Values above 255, which Pillow would stretch to 65535, or to 255 in a PPM of text."""
    count = math.prod(shape)
    if kind > 3:
        return Bands(np.frombuffer(data, ">u2", count).reshape(shape))
    words = _COMMENT.sub(b" ", data).split(None, count)[:count]
    return Bands(np.array([int(word) for word in words], np.uint16).reshape(shape))


def _fits(image: Image.Image, data: bytes) -> Image.Image | Bands:
    """The numbers that are meant: signed ones above 8 bits, scaled, and NaN where there are none.

    Pillow takes 16 bits for unsigned and leaves the rest to its caller.
    """
    end: int = getattr(image, "tile")[0].offset  # noqa: B009
    cards = (data[at : at + 80] for at in range(0, end, 80))
    told = {card[:8].rstrip(): card[10:].partition(b"/")[0].strip() for card in cards}
    scale = float(told.get(b"BSCALE", b"1").replace(b"D", b"E"))
    zero = float(told.get(b"BZERO", b"0").replace(b"D", b"E"))
    if image.mode == "L" and (scale, zero) == (1, 0) and b"BLANK" not in told:
        return image
    stored = np.asarray(image)[..., None]
    stored = stored.view(np.int16) if stored.dtype == np.uint16 else stored
    values = stored if (scale, zero) == (1, 0) else stored * scale + zero
    if b"BLANK" in told and stored.dtype.kind != "f":
        values = np.where(stored == int(told[b"BLANK"]), np.nan, values)
    return Bands(values)


def _open_tiff(data: bytes) -> Image.Image | Bands:
    try:
        image = _open(data)
    except OSError:  # Pillow knows neither many bands nor every depth
        return _by_tifffile(data)
    tags: Any = getattr(image, "tag_v2")  # noqa: B009
    alpha = any(kind in (1, 2) for kind in tags.get(_EXTRA, ()))
    bands = tags.get(_SAMPLES, 1) - alpha
    implied = bands == 4 and tags.get(_PHOTOMETRIC) == 2 and not tags.get(_EXTRA)  # RGBA by habit
    kind = tags.get(_PHOTOMETRIC, 1)
    if bands - implied != _BASE.get(kind) and kind != _CMYK:  # whose fifth is a spot colour's ink
        return _by_tifffile(data)  # Pillow reads the first three and says nothing
    deep = max(tags.get(_BITS, (1,))) > 8
    if tags.get(_PLANES) == 2 and (deep or tags.get(_SAMPLES) == 2):
        return _by_tifffile(data)  # Pillow takes each byte for a pixel, and alpha's for grey
    if _SIGNED in tags.get(_FORMAT, ()) and not deep:
        return _by_tifffile(data)  # Pillow takes -1 for 255
    if not _is_wide(image):
        return image
    raw = _raw_mode(image)
    known = image.mode not in ("RGB", "RGBA") or raw.partition(";")[0] in ("RGB", "RGBA")
    if not known:
        return _by_tifffile(data)
    bands = _wide(image, data)
    # Pillow turns these round at 8 bits only.
    return bands._replace(values=_black_is_zero(bands.values, tags)) if kind == 0 else bands


def _by_tifffile(data: bytes) -> Image.Image | Bands:
    """The first page of a TIFF that Pillow cannot read whole."""
    try:
        import tifffile
    except ImportError as error:
        raise InputError(
            "Pillow cannot read this TIFF whole; where it is one of several bands or of a rare "
            "depth, tifffile can: pip install 'infoutil-jax[bands]'"
        ) from error
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: Any = file.pages[0]
        if page.imagelength * page.imagewidth > MOST_PIXELS:
            raise ValueError(TOO_LARGE)
        if page.photometric == _PALETTE:
            raise ValueError("its pixels are numbers of a palette; they should be the colours")
        try:
            values, axes = page.asarray(maxworkers=1), page.axes
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            compression = getattr(page.compression, "name", page.compression)
            raise InputError(
                f"its compression, {compression}, needs imagecodecs: pip install imagecodecs"
            ) from error
        turn = page.tags[_ORIENTATION].value if _ORIENTATION in page.tags else 1
        extra, frames = tuple(page.extrasamples), len(file.pages) > 1
        if page.photometric == 0:
            values = _black_is_zero(values, {_BITS: (page.bitspersample,)})
    if axes not in ("YX", "YXS", "SYX"):
        raise ValueError(f"its axes are {axes}; they should be height, width and bands")
    if axes == "YX":
        values = values[..., None]
    elif axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    values, alpha = upright(values, int(turn)), None
    has_alpha = len(extra) == 1 and extra[0] in (1, 2) and values.shape[2] in (2, 4)
    if has_alpha and values.dtype in (np.uint8, np.uint16):
        last, values = values[..., -1], values[..., :-1]
        alpha = last if last.dtype == np.uint8 else ((last + 128) // 257).astype(np.uint8)
    bands = Bands(np.ascontiguousarray(values), alpha, frames)
    return picture(bands.values, alpha) if _is_picture(bands) else bands


def _black_is_zero(values: np.ndarray, tags: Any) -> np.ndarray:
    """The values of a TIFF whose 0 is white, turned round; floats have no white to begin from."""
    if values.dtype.kind != "u":
        return values
    white = (1 << int(tags.get(_BITS, (1,))[0])) - 1
    return np.asarray(white - values.astype(np.int64)).astype(values.dtype)


def upright(
    values: Shaped[np.ndarray, "h w bands"], orientation: int
) -> Shaped[np.ndarray, "h2 w2 bands"]:
    """Pixels as they are to be shown, from EXIF's orientation 1 to 8."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
