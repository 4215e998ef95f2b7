"""Images of 12 bits in 16, and of 13 bands, from files to a distilled set: every tile by NumPy."""

import io

import numpy as np
import pytest
from PIL import Image

from infoutil_jax.app.cli import main
from infoutil_jax.data.distilled import DistilledDataset

HIGHEST = 4095
TINY = [
    *("--teacher.width", "4", "--teacher.epochs", "1", "--teacher.early-epochs", "0"),
    *("--student.width", "4", "--student.epochs", "1", "--student.seeds", "0"),
    *("--images-per-class", "2", "--no-baseline"),
]


def scene(number, bands, side):
    """Waves and a bright spot, 0 to 4095: the spot's place tells the class, a wave each band."""
    y, x = np.mgrid[:side, :side] / side
    rng = np.random.default_rng(number)
    waves = [
        np.sin(2 * np.pi * (rng.integers(1, 5) * x + rng.integers(1, 5) * y + i))
        for i in range(bands)
    ]
    values = (np.stack(waves, -1) + 1) * 1500 + rng.integers(0, 200, (side, side, bands))
    at = side // 4 if number % 2 else side // 2
    values[at : at + 4, at : at + 4] = HIGHEST
    values[-1, -1] = 0
    return values.astype(np.uint16)


def png(values):
    file = io.BytesIO()
    Image.fromarray(values[..., 0]).save(file, "png")
    return file.getvalue()


def tiff(values):
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="minisblack", planarconfig="contig")
    return file.getvalue()


def npy(values):
    file = io.BytesIO()
    np.save(file, np.moveaxis(values, -1, 0))  # bands first, as satellite people have them
    return file.getvalue()


def resized(values, size):
    """Bilinear with antialiasing in float64: a triangle as wide as a pixel of the result."""
    for axis in (0, 1):
        there, wanted = values.shape[axis], size
        scale = there / wanted
        centres = (np.arange(wanted)[:, None] + 0.5) * scale
        far = np.abs(np.arange(there) + 0.5 - centres) / max(scale, 1)
        weights = np.maximum(1 - far, 0)
        weights /= weights.sum(1, keepdims=True)
        values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return values


@pytest.mark.parametrize(
    ("write", "bands", "side"),
    [(png, 1, 32), (png, 1, 48), (tiff, 13, 32), (npy, 13, 48)],
    ids=["png", "png-resized", "tiff", "npy-resized"],
)
def test_a_run_keeps_the_whole_range_of_deep_images(tmp_path, capsys, write, bands, side):
    """Half a level by rounding the source to 8 bits, and half by rounding the tile, is all loss."""
    sources = {}
    for number in range(16):
        values = scene(number, bands, side)
        name = f"{'ab'[number % 2]}/{number}.{write.__name__[:4]}"
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write(values))
        sources[name] = values.astype(np.float64) * 255 / HIGHEST
    spec, work = f"folder:{tmp_path / 'images'}", tmp_path / "work"
    assert main(["run", spec, "--workdir", str(work), "--image-size", "32", *TINY]) == 0
    said = capsys.readouterr().err
    assert f"values 0 to {HIGHEST} become 0 to 255" in said and "clipped" not in said
    distilled = DistilledDataset.load(work / "distilled")
    assert distilled.images.shape == (4, 32, 32, bands)
    highest, cut = [], []
    for image, record in zip(distilled.images, distilled.records, strict=True):
        (tile,) = record["tiles"]
        top, left, height, width = tile["box"]
        whole = resized(sources[tile["source"]], 32)
        exact = resized(whole[top : top + height, left : left + width], 32)
        # Where Pillow made the image smaller it rounded after either axis.
        assert np.abs(image - exact).max() <= (1 if side == 32 else 2)
        assert not (image[exact < 254] == 255).any() and not (image[exact > 1.5] == 0).any()
        assert len(np.unique(image)) > 100
        highest.append(image.max())
        cut.append((height, width) != (32, 32))
    assert max(highest) >= 250 and any(cut)
    assert main(["verify", str(work / "distilled")]) == 0
    assert main(["audit", str(work / "distilled"), "--source", spec]) == 0
