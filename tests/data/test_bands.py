"""Images of any number of bands: TIFF, NPY, and NPZ in MedMNIST's layout."""

import io

import numpy as np
import pytest
from PIL import Image

from infoutil_jax.data.augment import channel_statistics
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def tiff(values, **options):
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def first(values):
    return np.moveaxis(values, -1, 0).copy()


TIFFS = {
    "contiguous": lambda v: tiff(v, photometric="minisblack", planarconfig="contig"),
    "separate": lambda v: tiff(first(v), photometric="minisblack", planarconfig="separate"),
    "deflate": lambda v: tiff(
        v, photometric="minisblack", planarconfig="contig", compression="zlib", predictor=True
    ),
    "big endian": lambda v: tiff(
        v, photometric="minisblack", planarconfig="contig", byteorder=">", bigtiff=True
    ),
    "RGB and more": lambda v: tiff(
        v,
        photometric="rgb",
        planarconfig="contig",
        extrasamples=["unspecified"] * (v.shape[2] - 3),
    ),
}


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("bands", [4, 13])
def test_every_band_of_a_tiff_arrives(place, pixels_of, kind, bands):
    values = [noise(12, 10, bands, seed=seed) for seed in range(4)]
    spec = place([TIFFS[kind](one) for one in values], "tif")
    source = open_source(spec)
    assert source.channels == bands
    for number, image in pixels_of(source).items():
        np.testing.assert_array_equal(image, values[number])
    for fewer in (1, 2, bands - 1, bands):
        image = pixels_of(open_source(spec, channels=fewer))[0]
        np.testing.assert_array_equal(image, values[0][..., :fewer])


def test_bands_of_sixteen_bits_share_one_range(place, pixels_of):
    values = [noise(8, 8, 5, dtype=np.uint16, seed=seed) * np.uint16(40) for seed in range(4)]
    source = open_source(place(values, "npy"))
    low, high = source.value_range
    train = [values[int(name.split("/")[1][0])] for name in source.train.ids]
    assert (low, high) == (np.min(train), np.max(train))
    expected = np.round((np.clip(values[0].astype(float), low, high) - low) * 255 / (high - low))
    np.testing.assert_array_equal(pixels_of(source)[0], expected)


def test_a_tiff_of_bands_is_turned_upright(place, pixels_of):
    values = noise(12, 10, 5)
    turned = tiff(
        np.rot90(values).copy(),
        photometric="minisblack",
        planarconfig="contig",
        extratags=[(274, "H", 1, 6, True)],
    )
    np.testing.assert_array_equal(pixels_of(open_source(place([turned] * 4, "tif")))[0], values)


def test_bands_are_resized_one_by_one(place, pixels_of):
    values = noise(40, 60, 6)
    image = pixels_of(open_source(place([values] * 4, "npy"), image_size=20))[0]
    for band in range(6):
        middle = Image.fromarray(values[:, 10:50, band].copy())
        expected = np.asarray(middle.resize((20, 20), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(image[:, 2:-2, band], expected[:, 2:-2])


def test_a_tiff_of_bands_names_the_extra_where_tifffile_is_missing(place, monkeypatch):
    content = TIFFS["contiguous"](noise(8, 8, 5))
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(InputError, match=r"a/..tif .*infoutil-jax\[bands\]"):
        open_source(place([content] * 4, "tif"))


def test_a_compression_that_tifffile_cannot_undo_alone_names_what_can(place):
    pytest.importorskip("tifffile")
    file = io.BytesIO()
    picture = Image.fromarray(noise(8, 8, 3)).convert("RGBX")
    picture.save(file, "tiff", compression="tiff_lzw")
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="compression, LZW, needs imagecodecs: pip install"):
            open_source(place([file.getvalue()] * 4, "tif"))
    else:
        assert open_source(place([file.getvalue()] * 4, "tif")).channels == 4


ARRAYS = {
    (12, 10): 1,
    (12, 10, 1): 1,
    (12, 10, 2): 2,
    (12, 10, 3): 3,
    (12, 10, 4): 4,
    (12, 10, 7): 7,
    (9, 9, 200): 200,
    (7, 12, 10): 7,
    (3, 12, 10): 3,
}


@pytest.mark.parametrize("shape", ARRAYS)
def test_the_bands_of_an_array_are_its_last_axis_or_its_first_if_that_is_shortest(
    place, pixels_of, shape
):
    values = noise(*shape)
    source = open_source(place([values] * 4, "npy"))
    assert source.channels == ARRAYS[shape]
    expected = np.atleast_3d(values)
    if shape[0] < min(shape[1:]):
        expected = np.moveaxis(values, 0, -1)
    np.testing.assert_array_equal(pixels_of(source)[0], expected)


def test_three_bands_are_colour_as_in_a_picture(place, pixels_of, folder):
    photo = np.asarray(Image.open(folder / "cat/0000.jpg"))
    spec = place([photo] * 4, "npy")
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    np.testing.assert_array_equal(pixels_of(open_source(spec))[0], photo)
    np.testing.assert_array_equal(pixels_of(open_source(spec, channels=1))[0][..., 0], grey)


class Explodes:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([Explodes()] * 4).reshape(2, 2), "a/0.npy .*Object arrays cannot be loaded"),
        (noise(7), r"the array is uint8 \[7\]; it should be numbers of shape"),
        (noise(2, 3, 4, 5), r"uint8 \[2, 3, 4, 5\]"),
        (np.full((4, 4), "x"), "<U1"),
        (noise(4, 4).astype(complex), "complex128"),
    ],
)
def test_an_array_that_is_no_image_is_told_and_never_unpickled(place, array, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        open_source(place([array, *[noise(4, 4)] * 3], "npy"))
    assert "\n" not in str(error.value)


def test_a_mask_of_booleans_is_black_and_white(place, pixels_of):
    mask = noise(8, 8) > 128
    source = open_source(place([mask] * 4, "npy"))
    assert source.value_range is None
    np.testing.assert_array_equal(pixels_of(source)[0][..., 0], mask * 255)


@pytest.mark.parametrize(
    ("shapes", "channels", "sentence"),
    [
        ([(8, 8, 5)] * 4, 6, r"channels is 6, but a/0.npy has 5 bands; 1 to 5 would do"),
        (
            [(8, 8, 5), (8, 8, 6)] * 2,
            None,
            "a/0.npy has 5, b/..npy has 6; .*first 1 to 5",
        ),
        ([(8, 8, 3), (8, 8, 6)] * 2, None, r"a/0.npy has 3, b/..npy has 6; .*first 3 can"),
        ([(8, 8, 3), (8, 8, 6)] * 2, 2, r"a/0.npy has 3, b/..npy has 6; .*first 3 can"),
        ([(8, 8), (8, 8, 6)] * 2, None, "they should have one number of bands"),
        ([(8, 8, 3)] * 4, 4, "channels is 4, but the images have colour and no alpha"),
        ([(8, 8)] * 4, 2, "channels is 2, but the images have grey and no alpha"),
    ],
)
def test_a_band_that_is_not_there_is_told(place, shapes, channels, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        open_source(place([noise(*shape) for shape in shapes], "npy"), channels=channels)
    assert "\n" not in str(error.value)


def test_the_bands_that_all_images_have_can_be_taken(place, pixels_of):
    values = [noise(8, 8, 5), noise(8, 8, 6)] * 2
    found = pixels_of(open_source(place(values, "npy"), channels=4))
    for number in range(4):
        np.testing.assert_array_equal(found[number], values[number][..., :4])


def test_each_bands_mean_and_deviation_are_its_own(place):
    values = noise(8, 8, 7) // np.arange(1, 8, dtype=np.uint8)
    images = open_source(place([values] * 4, "npy")).train.arrays()[0]
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, values.mean((0, 1)) / 255, rtol=1e-12)
    np.testing.assert_allclose(std, values.std((0, 1)) / 255, rtol=1e-12)


# --- NPZ


@pytest.fixture
def npz(tmp_path):
    """A file in MedMNIST's layout, with some of its arrays changed; None leaves one out."""

    def npz(**changes):
        arrays = {}
        for seed, (split, count) in enumerate((("train", 8), ("val", 4), ("test", 4))):
            arrays[f"{split}_images"] = noise(count, 28, 28, 3, seed=seed)
            arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
        arrays = {key: value for key, value in (arrays | changes).items() if value is not None}
        np.savez_compressed(tmp_path / "pathmnist.npz", **arrays)
        return f"npz:{tmp_path / 'pathmnist.npz'}"

    return npz


def test_an_npz_file_in_medmnists_layout_is_read(npz):
    source = open_source(npz())
    assert (source.name, source.class_names) == ("pathmnist", ("0", "1"))
    assert source.splits == ("train", "test") and source.notes == ("splits not taken: val",)
    assert source.train.ids[7] == "train/0000007"
    np.testing.assert_array_equal(source.train.arrays()[0], noise(8, 28, 28, 3))
    np.testing.assert_array_equal(source.train.labels, np.arange(8) % 2)
    np.testing.assert_array_equal(source.test.arrays()[0], noise(4, 28, 28, 3, seed=2))


@pytest.mark.parametrize("most", [3, 2**31 - 1])
def test_an_npz_file_whose_labels_leave_out_a_class_is_refused_at_once(npz, most):
    labels = np.array([[0], [1]] * 3, np.int64)
    labels[5] = most
    with pytest.raises(InputError, match=rf"train_labels of .* have a class {most} and none 2"):
        open_source(npz(train_labels=labels))


def test_splits_of_an_npz_file_are_chosen_as_all_are(npz):
    hidden = npz(test_labels=np.full((4, 1), -1))
    source = open_source(hidden)
    assert source.splits == ("train", "val")
    assert source.notes == ("splits not taken: test (all its labels are hidden (-1))",)
    assert open_source(npz(test_labels=None)).splits == ("train", "val")
    assert open_source(npz(), test_split="val").splits == ("train", "val")
    alone = {f"{split}_{what}": None for split in ("val", "test") for what in ("images", "labels")}
    assert open_source(npz(**alone)).splits == ("80% of train", "20% of train")


def test_grey_and_many_bands_of_an_npz_file_arrive(npz):
    shapes = {"train": 8, "val": 4, "test": 4}
    grey = npz(**{f"{split}_images": noise(n, 28, 28) for split, n in shapes.items()})
    assert open_source(grey).channels == 1
    many = npz(**{f"{split}_images": noise(n, 28, 28, 9) for split, n in shapes.items()})
    np.testing.assert_array_equal(
        open_source(many, channels=6).train.arrays()[0], noise(8, 28, 28, 9)[..., :6]
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train_labels": np.ones((8, 14), np.uint8)}, "14 labels an image; it should have one"),
        ({"train_labels": np.ones((8, 1))}, r"float64 \[8, 1\]; it should be integers"),
        ({"train_labels": None}, "split train .* cannot be trained on: there is no train_labels"),
        ({"train_labels": np.full((8, 1), -1)}, "cannot be trained on: all its labels are hidden"),
        ({"train_images": noise(7, 28, 28)}, r"train_images of .* is \[7, 28, 28\]; .* n = 8"),
        ({"train_images": None}, "no split called train or training; choose one of val, test"),
        ({"test_labels": np.full((4, 1), 7)}, "example 0 of .*, split test, has label 7"),
        ({"train_images": np.array([Explodes()] * 8)}, "Object arrays cannot be loaded"),
    ],
)
def test_an_npz_file_that_will_not_do_is_told(npz, changes, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        open_source(npz(**changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + b"\0" * 18, None])
def test_what_is_no_npz_file_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"set.npz (is not|holds nothing)"):
        open_source(f"npz:{tmp_path / 'set.npz'}")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(InputError, match="holds x; it should hold train_images and train_labels"):
        open_source(f"npz:{tmp_path / 'other.npz'}")
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(InputError, match="is not an NPZ file"):
        open_source(f"npz:{tmp_path / 'one.npy'}")
