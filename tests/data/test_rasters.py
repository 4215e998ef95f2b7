"""The values that a file of any depth stores are those that are read."""

import io

import numpy as np
import pytest

from infoutil_jax.data.rasters import Bands, open_raster

DEPTHS = ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")


def tiff(*pages, byteorder="<", bigtiff=False, **options):
    tifffile, file = pytest.importorskip("tifffile"), io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=byteorder, bigtiff=bigtiff) as writer:
        for page in pages:
            writer.write(page, **options)
    return file.getvalue()


def stored(data):
    """Values [height, width, bands] of an encoded image, and its alpha."""
    found = open_raster(data)
    if isinstance(found, Bands):
        return found.values, found.alpha
    values = np.atleast_3d(np.asarray(found))
    return (values[..., :-1], values[..., -1]) if found.mode == "LA" else (values, None)


def spread(dtype, *shape):
    """Values from the lowest of a kind of integers to the highest; of floats, -100 to 100."""
    kind = np.dtype(dtype)
    ends = (-100, 100) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    return np.linspace(*ends, int(np.prod(shape))).round(1).astype(kind).reshape(shape)


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("white", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packing", [None, "zlib"])
@pytest.mark.parametrize("pages", [1, 2])
def test_a_grey_tiff_keeps_its_values(dtype, white, order, packing, pages):
    values = spread(dtype, 9, 12)
    several = [values, values[::-1]][:pages]
    data = tiff(*several, byteorder=order, compression=packing, photometric=white)
    found, alpha = stored(data)
    turned = white == "miniswhite" and np.dtype(dtype).kind == "u"
    np.testing.assert_array_equal(found[..., 0], ~values if turned else values)
    assert alpha is None and found.shape == (9, 12, 1)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packing", [None, "zlib"])
def test_grey_and_alpha_in_planes_are_grey_and_alpha(order, packing):
    values = spread("u1", 2, 9, 12)
    options = {"planarconfig": "separate", "extrasamples": ["unassalpha"]}
    data = tiff(values, byteorder=order, compression=packing, photometric="minisblack", **options)
    found, alpha = stored(data)
    np.testing.assert_array_equal(found[..., 0], values[0])
    np.testing.assert_array_equal(alpha, values[1])


def test_numbers_of_a_palette_are_not_taken_for_grey():
    colours = spread("u2", 3, 256)
    options = {"photometric": "palette", "colormap": colours, "byteorder": ">"}
    with pytest.raises(ValueError, match="numbers of a palette; they should be the colours"):
        stored(tiff(spread("u1", 9, 12), bigtiff=True, **options))


# --- Netpbm


@pytest.mark.parametrize(("kind", "bands"), [(2, 1), (3, 3), (5, 1), (6, 3)])
def test_a_netpbm_file_keeps_its_values_as_text_or_bytes(kind, bands):
    values = spread("u2", 9, 12, bands) // 16
    text = "\n".join(f"{one} # a comment 7" for one in values.ravel()).encode()
    data = b"P%d\n12 9\n4095\n" % kind + (text if kind < 4 else values.astype(">u2").tobytes())
    np.testing.assert_array_equal(stored(data)[0], values)
    with pytest.raises(ValueError, match="size"):
        stored(data[: len(data) // 2])


# --- FITS


def fits(values, *cards):
    """A FITS file, written by hand; its rows are stored from the bottom."""
    bits = {"u1": 8, "i2": 16, "i4": 32, "f4": -32, "f8": -64}[values.dtype.str[1:]]
    height, width = values.shape
    head = ("SIMPLE  = T", f"BITPIX  = {bits}", "NAXIS   = 2", f"NAXIS1  = {width}")
    lines = [*head, f"NAXIS2  = {height}", *cards, "END"]
    text = "".join(line.ljust(80) for line in lines).encode()
    body = values[::-1].astype(values.dtype.newbyteorder(">")).tobytes()
    return b"".join(part + b" " * (-len(part) % 2880) for part in (text, body))


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_a_fits_file_keeps_its_values(dtype):
    values = spread(dtype, 9, 12)
    found, _ = stored(fits(values))
    np.testing.assert_array_equal(found[..., 0], values.astype("f4") if dtype == "f8" else values)


@pytest.mark.parametrize(("of", "kept"), [("i1", "u1"), ("u2", "i2"), ("u4", "i4")])
def test_numbers_of_the_other_sign_that_fits_shifts_arrive_as_they_were(of, kept):
    values = spread(of, 9, 12)
    shift = np.iinfo(of).min - np.iinfo(kept).min
    content = (values.astype(np.int64) - shift).astype(kept)
    data = fits(content, "BSCALE  = 1.0 / no 7", f"BZERO   = {shift} / as FITS has no such")
    np.testing.assert_array_equal(stored(data)[0][..., 0], values)


def test_fits_values_are_scaled_and_blank_ones_are_none():
    content = spread("i2", 9, 12)
    cards = ("BSCALE  = 2.5D-1", "BZERO   = -7.", "BLANK   = -32768")
    expected = np.where(content == -32768, np.nan, content * 0.25 - 7)
    np.testing.assert_array_equal(stored(fits(content, *cards))[0][..., 0], expected)
    assert np.isnan(expected[0, 0])
