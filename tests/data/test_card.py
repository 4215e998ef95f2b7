"""The README.md of a set: what its front matter tells Hugging Face."""

from pathlib import PurePosixPath

import numpy as np
import pytest

from infoutil_jax.data.distilled import write_distilled

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
