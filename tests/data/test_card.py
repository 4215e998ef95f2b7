"""The README.md of a set: what it tells Hugging Face, and which tiles its programs see."""

import glob
import re
from pathlib import PurePosixPath

import numpy as np
import PIL.Image
import pytest

from infoutil_jax.data.distilled import write_distilled
from infoutil_jax.image import mosaic

yaml = pytest.importorskip("yaml")


@pytest.fixture
def front_matter(tmp_path, arguments):
    def front_matter(**given):
        made = write_distilled(tmp_path / "set", **arguments() | given)
        _, front, _ = (made.path / "README.md").read_text().split("---\n", 2)
        return yaml.safe_load(front), made

    return front_matter


def test_a_class_that_is_called_test_is_no_split(front_matter):
    front, made = front_matter(class_names=("bus", "test", "train"))
    (config,) = front["configs"]
    (split,) = config["data_files"]
    assert split == {"split": "train", "path": ["metadata.jsonl", "images/**"]}
    listed = made.manifest["files"].keys() - {"README.md", "soft_labels.safetensors"}
    assert "images/test/000003.png" in listed
    for name in map(PurePosixPath, listed):
        assert any(name.is_relative_to(one.removesuffix("**")) for one in split["path"])
    _, label, _ = config["features"]
    assert label["dtype"]["class_label"]["names"] == {"0": "bus", "1": "test", "2": "train"}


def test_numpy_files_are_not_said_to_be_images_that_hugging_face_reads(front_matter, arguments):
    front, _ = front_matter(images=np.repeat(arguments()["images"], 2, -1))
    assert front["tags"] == ["dataset-distillation", "infoutil"] and "configs" not in front


TRAINING = {"temperature": 4.0, "flip": True, "batch_size": 6, "epochs": 36}
TRAINING |= {"learning_rate": 0.001, "partition": True}


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize(
    ("height", "width", "tiles", "said"),
    [
        (12, 18, 9, "3×3 tiles of 4×6 pixels, by rows"),
        (33, 33, 4, "2×2 tiles, by rows, 17 + 16 pixels high and 17 + 16 wide"),
        (20, 11, 9, "3×3 tiles, by rows, 7 + 7 + 6 pixels high and 4 + 4 + 3 wide"),
        (20, 21, 4, "2×2 tiles, by rows, 10 + 10 pixels high and 11 + 10 wide"),
    ],
)
def test_programs_cut_each_tile_out_whole_and_alone(
    tmp_path, monkeypatch, height, width, tiles, said, channels
):
    rng, size = np.random.default_rng(0), (height, width)
    shown = rng.integers(0, 40, (2, tiles, *mosaic.tile_size(size, tiles), channels))
    shown += 200 * (np.arange(tiles) % 2)[:, None, None, None]
    images = mosaic.assemble(shown.astype(np.uint8), size)
    made = write_distilled(
        tmp_path / "set",
        images=images,
        labels=np.arange(2),
        soft_labels=np.zeros((2, tiles, 2), np.float32),
        class_names=("a", "b"),
        records=[{}] * 2,
        manifest={"training": TRAINING},
    )
    text = (made.path / "README.md").read_text()
    assert f"| Tiles | each image is {said}; students see each by itself" in text
    cells = mosaic.cells(size, tiles)
    right = [image[y : y + h, x : x + w] for image in images for y, x, h, w in cells]
    monkeypatch.chdir(made.path)
    programs = re.findall("^files = .*\nimages = np.stack.*$", text, re.MULTILINE)
    assert len(programs) == 3
    for program in programs:
        known = {"glob": glob, "np": np, "PIL": PIL}
        exec(program, known)
        assert known["images"].shape == (2 * tiles, height, width, channels)
        for image, cell in zip(known["images"], right, strict=True):
            corners = np.ix_((0, -1), (0, -1))
            np.testing.assert_array_equal(image[corners], cell[corners])
            assert image.min() >= cell.min() and image.max() <= cell.max()  # nobody else's pixels
