"""Corruptions by their definitions, steps that stay small, labels as wrong as asked for."""

import io
import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from experiments.adversarial import attacked
from experiments.corruptions import KINDS, corrupted
from experiments.domains import best_windows
from experiments.robustness import RESULTS, with_wrong
from experiments.robustness_tables import PAGE, filled
from experiments.weather import _canny, photographs_in, plasma
from infoutil_jax.errors import InputError
from infoutil_jax.training.classifier import Classifier

PHOTOS = Path(__file__).parents[1] / "fixtures" / "cifar10"


@pytest.fixture(scope="module")
def photos():
    files = sorted(PHOTOS.rglob("*.png")) or sorted(PHOTOS.rglob("*.jpg"))
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files[:4]])


ICE = [np.linspace(0, 1, 40 * 50 * 3).reshape(40, 50, 3)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes_and_severity_a_worse_image(photos, kind):
    once, again = (corrupted(photos, kind, 3, seed=5, photographs=ICE) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert once.shape == photos.shape and once.dtype == np.uint8
    worse = [corrupted(photos, kind, s, photographs=ICE).astype(float) for s in (1, 5)]
    change = [np.abs(one - photos).mean() for one in worse]
    assert change[0] > 0.3
    if kind not in ("elastic_transform", "saturate"):  # whose constants are of other kinds
        assert change[1] > change[0]


@pytest.mark.parametrize(
    ("kind", "severity", "deviation"),
    [("gaussian_noise", 1, 0.04), ("gaussian_noise", 5, 0.1), ("speckle_noise", 5, 0.2 * 0.5)],
)
def test_noise_has_the_deviation_of_the_table(kind, severity, deviation):
    grey = np.full((20, 32, 32, 3), 128, np.uint8)
    found = corrupted(grey, kind, severity) / 255.0
    assert found.std() == pytest.approx(deviation, rel=0.03)
    assert found.mean() == pytest.approx(128 / 255, abs=0.003)


def test_shots_and_impulses_are_as_many_as_they_should_be():
    grey = np.full((20, 32, 32, 3), 64, np.uint8)
    shots = corrupted(grey, "shot_noise", 5) / 255.0
    assert shots.var() == pytest.approx(64 / 255 / 50, rel=0.05), "Poisson: mean over count"
    struck = corrupted(grey, "impulse_noise", 5)
    assert (struck != 64).mean() == pytest.approx(0.07, rel=0.05)
    assert set(np.unique(struck)) == {0, 64, 255}


def test_contrast_brightness_and_saturation_in_closed_form(photos):
    x = photos / 255.0
    flat = (x - x.mean((1, 2), keepdims=True)) * 0.15 + x.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(corrupted(photos, "contrast", 5) / 255, flat, atol=1.01 / 255)
    bright = corrupted(photos, "brightness", 2).astype(int)
    value = np.minimum(photos.max(3) + 25.5, 255)
    assert np.abs(bright.max(3) - value).max() <= 1
    for image, out in zip(photos, corrupted(photos, "saturate", 1), strict=True):
        before, after = (
            np.asarray(Image.fromarray(one).convert("HSV"), int) for one in (image, out)
        )
        clear = before[..., 2] > 60
        assert np.abs(after[..., 1] - 0.3 * before[..., 1])[clear].max() <= 6
        assert np.abs(after[..., 2] - before[..., 2])[clear].max() <= 1


def test_blurs_keep_the_mean_and_lose_detail(photos):
    smooth = np.full_like(photos, 77)
    for kind in ("gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "glass_blur"):
        assert np.abs(corrupted(smooth, kind, 5).astype(int) - 77).max() <= 1
        found = corrupted(photos, kind, 5)
        if kind != "glass_blur":
            assert (
                np.diff(found.astype(int), axis=2).std() < np.diff(photos.astype(int), axis=2).std()
            )


def test_pixels_under_glass_change_places_only():
    photo = np.arange(32 * 32, dtype=np.uint16).reshape(1, 32, 32, 1) % 251
    found = corrupted(photo.astype(np.uint8), "glass_blur", 1)  # whose blur is of no width
    np.testing.assert_array_equal(np.sort(found, axis=None), np.sort(photo, axis=None))
    assert (found != photo).mean() > 0.5


def test_jpeg_and_pixels_are_pillows(photos):
    file = io.BytesIO()
    Image.fromarray(photos[0]).save(file, "JPEG", quality=40)
    found = corrupted(photos, "jpeg_compression", 5)[0]
    np.testing.assert_array_equal(found, np.asarray(Image.open(file)))
    coarse = corrupted(photos, "pixelate", 5)[0]
    assert len(np.unique(coarse.reshape(-1, 3), axis=0)) <= int(32 * 0.65) ** 2


@given(st.integers(1, 40), st.sampled_from([1.75, 3]))
@settings(max_examples=10, deadline=None)
def test_clouds_fill_any_square_from_0_to_1(side, decay):
    cloud = plasma(np.random.default_rng(side), 3, max(side, 2), decay)
    assert cloud.shape == (3, max(side, 2), max(side, 2))
    assert cloud.min() >= 0 and cloud.max() <= 1


def test_frost_is_a_part_of_a_photograph_added(photos):
    """Of a ramp every part is one, so that what is added rises as it does."""
    found = corrupted(photos, "frost", 5, photographs=ICE) / 255.0
    added = (found - 0.75 * photos / 255) / 0.45
    inside = found < 1
    steps = np.diff(added, axis=1)[inside[:, 1:] & inside[:, :-1]]
    np.testing.assert_allclose(steps, 150 / (ICE[0].size - 1), atol=0.01)
    grey = corrupted(photos[..., :1], "frost", 1, photographs=ICE)
    assert grey.shape == photos[..., :1].shape


def test_photographs_of_frost_are_read_at_a_fifth_of_their_size(tmp_path):
    pixels = np.arange(100 * 60 * 3).reshape(100, 60, 3).astype(np.uint8)
    for name in "abcdef":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    found = photographs_in(tmp_path)
    assert len(found) == 5, "the benchmark draws among the first five"
    np.testing.assert_array_equal(found[0], pixels[2::5, 2::5] / 255)


def test_mud_covers_and_water_shines(photos):
    """Mud of full cover is its colour; water only adds light, at most half of its colour's."""
    mud = corrupted(photos, "spatter", 5).astype(int)
    covered = np.abs(mud - [63, 42, 20]).max(3) <= 1
    assert 0.005 < covered.mean() < 0.3
    untouched = (mud == photos).all(3)
    assert untouched.mean() > 0.5
    light = corrupted(photos, "spatter", 3).astype(int) - photos
    assert light.min() >= -1 and light[..., 0].max() <= 0.5 * 175 + 1
    assert light.max() <= 0.5 * 238 + 1


def test_edges_of_a_square_are_its_border():
    square = np.zeros((16, 16), np.uint8)
    square[4:12, 4:12] = 200
    found = _canny(square, 50, 150)
    assert 26 <= found.sum() <= 32, "one pixel wide"
    assert ndimage.label(~found)[1] == 2, "it parts what is inside from what is outside"
    assert not found[5:10, 5:10].any() and not found[:3].any() and not found[13:].any()
    assert not _canny(square // 40, 50, 150).any(), "a faint one has none"


def test_what_cannot_be_corrupted_is_told(photos):
    for kind, severity, images, sentence in (
        ("rain", 1, photos, "'rain' is unknown"),
        ("frost", 1, photos, "needs photographs"),
        ("fog", 6, photos, "should be 1 to 5"),
        ("saturate", 1, photos[..., :1], "it needs RGB"),
        ("fog", 1, np.repeat(photos, 2, -1), "6 channels"),
    ):
        with pytest.raises(InputError, match=sentence):
            corrupted(images, kind, severity)


def plain(variables, images):
    return images.reshape(len(images), -1) @ variables


@pytest.mark.parametrize("steps", [1, 10])
def test_the_step_against_a_linear_classifier_is_the_best_one(steps):
    """Its margin falls by the size times the weights' sum, which no other small step exceeds."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(48, 2)).astype(np.float32)
    images = rng.integers(100, 150, (6, 4, 4, 3)).astype(np.uint8)  # no edge is near
    labels = np.array([0, 1] * 3)
    linear = Classifier(plain, jnp.asarray(weights), (0.5,) * 3, (0.25,) * 3)
    logits = attacked(linear, images, labels, size=8.0, steps=steps)
    before = ((images / 255 - 0.5) / 0.25).reshape(6, -1) @ weights
    own, apart = np.arange(6), weights[:, 0] - weights[:, 1]
    margins = [one[own, labels] - one[own, 1 - labels] for one in (before, logits)]
    most = 8 / 255 / 0.25 * np.abs(apart).sum()
    np.testing.assert_allclose(margins[0] - margins[1], most, rtol=1e-3)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_as_many_labels_are_wrong_as_asked_for(rate):
    labels = np.arange(1000) % 7
    wrong = with_wrong(labels, 7, rate)
    assert (wrong != labels).sum() == round(1000 * rate)
    assert wrong.min() >= 0 and wrong.max() < 7
    np.testing.assert_array_equal(wrong, with_wrong(labels, 7, rate))


def test_the_best_window_is_the_one_with_the_largest_sum():
    maps = np.zeros((2, 4, 4))
    maps[0, 1:3, 2:4] = 1
    maps[1, 3, 3] = 5
    assert best_windows(maps).tolist() == [5, 8]


def test_the_page_has_the_tables_of_the_committed_lines():
    text = PAGE.read_text()
    assert filled(text, RESULTS) == text
    for study in re.findall(r"<!-- end of (\w+) -->", text):
        assert re.search(rf"<!-- {study} -->\n\n\| .*\n\| --- .*\n\| ", text), study


def test_every_line_says_what_made_it():
    files = sorted(RESULTS.glob("*.jsonl"))
    assert files
    for file in files:
        for line in map(json.loads, file.read_text().splitlines()):
            assert {"small", "source", "versions", "hardware", "seconds"} <= line.keys()
            assert not line["small"]["spec"].startswith("folder:/")
