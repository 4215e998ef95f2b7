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
