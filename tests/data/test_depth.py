"""Values of more than 8 bits become 0 to 255 by one range for the whole set."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from infoutil_jax.data.pixels import eight_bits
from infoutil_jax.data.rasters import Bands, open_raster, upright
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError


def ramp(low, high, dtype=np.uint16):
    """A 32 x 32 picture with every value from low to high in even steps."""
    return np.linspace(low, high, 32 * 32).reshape(32, 32).astype(dtype)


def scaled(values, low, high):
    return np.round((np.clip(values.astype(float), low, high) - low) * 255 / (high - low))


def png(values, colour, transparent=None):
    """A PNG of 16 bits, written by hand: Pillow writes none in colour."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    key = b"" if transparent is None else chunk(b"tRNS", struct.pack(">3H", *transparent))
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def ppm(values, most=65535):
    height, width, bands = values.shape
    head = b"P%d\n# by hand # 1 2 3\n%d %d\n%d\n" % (5 if bands == 1 else 6, width, height, most)
    return head + values.astype(">u2").tobytes()


def test_twelve_bits_in_sixteen_keep_256_levels(place, pixels_of):
    contents = [ramp(0, 4095), ramp(4095, 0), ramp(0, 4095).T, ramp(0, 4095)[::-1]]
    source = open_source(place(contents))
    assert source.value_range == (0, 4095)
    for number, image in pixels_of(source).items():
        np.testing.assert_array_equal(image[..., 0], scaled(contents[number], 0, 4095))
    assert len(np.unique(pixels_of(source)[0])) == 256
    assert "values 0 to 4095 become 0 to 255 (--value-range)" in source.notes


def test_the_range_is_of_the_training_images_and_others_are_clipped(place, pixels_of, tmp_path):
    place([ramp(100, 1000)] * 4)
    for split, values in (("train", ramp(100, 1000)), ("test", ramp(0, 2000))):
        for name in "ab":
            (tmp_path / f"made/{split}/{name}").mkdir(parents=True)
            Image.fromarray(values).save(tmp_path / f"made/{split}/{name}/0.png")
    source = open_source(f"folder:{tmp_path / 'made'}", test_split="test")
    assert source.value_range == (100, 1000)
    np.testing.assert_array_equal(source.test.image(0)[..., 0], scaled(ramp(0, 2000), 100, 1000))
    (note,) = [note for note in source.notes if note.startswith("values")]
    assert note.endswith("2 of 4 images have values beyond, which are clipped")


def test_a_range_that_is_given_is_taken(place, pixels_of):
    contents = [ramp(0, 4095)] * 4
    spec = place(contents)
    free, given = open_source(spec), open_source(spec, value_range=(0, 1000))
    assert given.value_range == (0, 1000)
    np.testing.assert_array_equal(pixels_of(given)[0][..., 0], scaled(contents[0], 0, 1000))
    assert "4 of 4 images have values beyond" in given.notes[-1]
    assert open_source(spec, value_range=(0, 4095)).fingerprint() == free.fingerprint()
    assert given.fingerprint() != free.fingerprint()


FLOATS = {
    "float TIFF": ("tif", lambda v: v.astype(np.float32)),
    "integer TIFF": ("tif", lambda v: v.astype(np.int32)),
    "float NPY": ("npy", lambda v: v.astype(np.float64)),
    "half NPY": ("npy", lambda v: v.astype(np.float16)),
    "long NPY": ("npy", lambda v: v.astype(np.int64)),
}


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("high", [1, 1000])
def test_floats_and_long_integers_keep_their_range(place, pixels_of, kind, high):
    ending, convert = FLOATS[kind]
    if high == 1 and convert(np.ones(1)).dtype.kind == "i":
        high = 2_000_000
    contents = [convert(ramp(-high, high, float)), convert(ramp(0, high, float))] * 2
    if ending == "tif":
        contents = [Image.fromarray(content) for content in contents]
    source = open_source(place(contents, ending))
    assert source.value_range == (-high, high)
    found = pixels_of(source)
    for number, content in enumerate(contents):
        expected = scaled(np.asarray(content), -high, high)
        np.testing.assert_array_equal(found[number][..., 0], expected)
        assert np.ptp(found[number].astype(int)) >= 127


def test_unsigned_integers_above_two_billion_do_not_turn_negative(place, pixels_of):
    tifffile = pytest.importorskip("tifffile")
    high, contents = 4_000_000_000, []
    for _ in range(4):
        file = io.BytesIO()
        tifffile.imwrite(file, ramp(0, high, np.uint32))
        contents.append(file.getvalue())
    source = open_source(place(contents, "tif"))
    assert source.value_range == (0, high)
    np.testing.assert_array_equal(
        pixels_of(source)[0][..., 0], scaled(ramp(0, high, np.uint32), 0, high)
    )


def colours(high):
    rng = np.random.default_rng(0)
    values = rng.integers(0, high + 1, (32, 32, 4), dtype=np.uint16)
    values[0, 0], values[0, 1] = 0, high
    return values


@pytest.mark.parametrize("ending", ["png", "ppm"])
def test_sixteen_bits_of_colour_are_all_read(place, pixels_of, ending):
    values = colours(1000)[..., :3]
    content = png(values, 2) if ending == "png" else ppm(values)
    source = open_source(place([content] * 4, ending))
    assert source.channels == 3 and source.value_range == (0, 1000)
    np.testing.assert_array_equal(pixels_of(source)[0], scaled(values, 0, 1000))


def test_a_pgm_keeps_the_values_that_are_stored(place, pixels_of):
    values = ramp(0, 4095)[..., None]
    source = open_source(place([ppm(values, 4095)] * 4, "pgm"), value_range=(0, 2000))
    np.testing.assert_array_equal(pixels_of(source)[0], scaled(values, 0, 2000))


def test_a_hostile_head_is_read_in_no_time(place):
    content = b"P6\n" + b"# " * 5000 + b"\n# x" * 5000
    with pytest.raises(InputError, match=r"..ppm cannot be read"):
        open_source(place([content] * 4, "ppm"))


@pytest.mark.parametrize("layout", ["raw", "zlib", "big", "separate"])
def test_sixteen_bits_of_colour_in_tiff_are_all_read(place, pixels_of, layout):
    tifffile = pytest.importorskip("tifffile")
    values, file = colours(1000)[..., :3], io.BytesIO()
    options = {"zlib": {"compression": "zlib"}, "big": {"byteorder": ">"}}.get(layout, {})
    if layout == "separate":
        stored = np.moveaxis(values, -1, 0).copy()
        tifffile.imwrite(file, stored, photometric="rgb", planarconfig="separate")
    else:
        tifffile.imwrite(file, values, photometric="rgb", **options)
    source = open_source(place([file.getvalue()] * 4, "tif"))
    np.testing.assert_array_equal(pixels_of(source)[0], scaled(values, 0, 1000))


def test_alpha_of_sixteen_bits_is_alpha(place, pixels_of):
    values = colours(1000)
    values[..., 3] = np.linspace(0, 65535, 32).astype(np.uint16)
    source = open_source(place([png(values, 6)] * 4), channels=4)
    found = pixels_of(source)[0]
    np.testing.assert_array_equal(found[..., :3], scaled(values[..., :3], 0, 1000))
    np.testing.assert_array_equal(found[..., 3], np.round(values[..., 3] / 257))


def test_grey_and_alpha_of_sixteen_bits_are_grey_and_alpha(place, pixels_of):
    values = colours(1000)[..., :2]
    values[..., 1] = 65535
    spec = place([png(values, 4)] * 4)
    source = open_source(spec)
    assert source.channels == 1
    np.testing.assert_array_equal(pixels_of(source)[0], scaled(values[..., :1], 0, 1000))
    assert open_source(spec, channels=2).channels == 2


def test_a_transparent_colour_of_sixteen_bits_is_transparent(place, pixels_of):
    values = colours(1000)[..., :3]
    values[3:9, 4:7] = (7, 300, 50)
    source = open_source(place([png(values, 2, (7, 300, 50))] * 4), channels=4)
    expected = np.full((32, 32), 255)
    expected[3:9, 4:7] = 0
    np.testing.assert_array_equal(pixels_of(source)[0][..., 3], expected)


def test_eight_bits_beside_sixteen_keep_their_values(place, pixels_of):
    contents = [ramp(0, 4095), ramp(0, 255, np.uint8)] * 2 + [ramp(0, 4095)] * 2
    source = open_source(place(contents))
    assert source.value_range == (0, 4095)
    np.testing.assert_array_equal(pixels_of(source)[1][..., 0], contents[1])
    assert "2 of 6 images have 8 bits and keep their values" in source.notes


def test_eight_bits_are_as_ever(place, pixels_of):
    contents = [ramp(20, 100, np.uint8)] * 4
    source = open_source(place(contents))
    assert source.value_range is None
    np.testing.assert_array_equal(pixels_of(source)[0][..., 0], contents[0])


def test_nan_and_infinity_have_a_place(place, pixels_of):
    values = ramp(0, 1, np.float32)
    values[0, :4] = np.nan, np.inf, -np.inf, 0.5
    values[1, 0] = 0
    source = open_source(place([values] * 4, "npy"))
    assert source.value_range == (0, 1)
    assert pixels_of(source)[0][0, :4, 0].tolist() == [0, 255, 0, 128]


def test_a_constant_set_is_black(place, pixels_of):
    source = open_source(place([np.full((8, 8), 3000, np.uint16)] * 4))
    assert not pixels_of(source)[0].any()


@pytest.mark.parametrize(
    ("value_range", "sentence"),
    [
        ((5, 5), r"value_range is \(5, 5\); .*a higher one"),
        ((5, float("nan")), "value_range is .*a higher one"),
        ((0, 100), "all images have 8 bits and keep their values"),
    ],
)
def test_a_range_that_will_not_do_is_told(folder, value_range, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        open_source(f"folder:{folder}", value_range=value_range)
    assert "\n" not in str(error.value)


def test_no_finite_value_is_told_by_name(place):
    contents = [np.full((8, 8), np.nan)] + [np.ones((8, 8))] * 3
    with pytest.raises(InputError, match=r"a/0.npy cannot be read .*none of its values is finite"):
        open_source(place(contents, "npy"))


@given(
    arrays.arrays(
        st.sampled_from([np.uint16, np.int32, np.float32]),
        (4, 5, 2),
        elements=st.integers(0, 60000).map(float) | st.integers(0, 60000),
    ),
    st.tuples(st.integers(-100, 30000), st.integers(1, 40000)),
)
def test_mapping_keeps_order_and_reaches_both_ends(values, ends):
    low, high = float(ends[0]), float(ends[0] + ends[1])
    found = eight_bits(values, (low, high)).ravel().astype(int)
    order = np.argsort(values.ravel(), kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    assert (found[values.ravel() <= low] == 0).all() and (
        found[values.ravel() >= high] == 255
    ).all()
    np.testing.assert_array_equal(
        eight_bits(found.astype(np.uint16).reshape(values.shape), (0.0, 255.0)).ravel(), found
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_pillows(orientation):
    from PIL import ImageOps

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(
        upright(pixels, orientation), np.asarray(ImageOps.exif_transpose(image))
    )


@pytest.mark.parametrize(
    ("dtype", "high"), [(np.uint8, 255), (np.uint16, 65535), (np.uint32, 2**32 - 1)]
)
@pytest.mark.parametrize("bands", [1, 2])
def test_a_tiff_whose_zero_is_white_arrives_as_it_looks(tmp_path, dtype, high, bands):
    """Pillow turns 8 bits round, and no others."""
    tifffile = pytest.importorskip("tifffile")
    values = np.array([0, high // 5, high], dtype).repeat(3).reshape(3, 3)
    values = np.stack([values] * bands, axis=-1) if bands > 1 else values
    apart = {"planarconfig": "contig", "extrasamples": ["unspecified"]} if bands > 1 else {}
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="miniswhite", **apart)
    found = open_raster((tmp_path / "x.tif").read_bytes())
    seen = np.asarray(found.values if isinstance(found, Bands) else found).reshape(3, 3, bands)
    np.testing.assert_array_equal(seen[:, 0, 0], high - values.reshape(3, 3, bands)[:, 0, 0])
