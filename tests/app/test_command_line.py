"""The command line that does what a call in Python did."""

import shlex

import numpy as np
import pytest
import tyro
from PIL import Image

from infoutil_jax.app.command_line import command_of, source_flags, spelled
from infoutil_jax.app.config import RecipeConfig, RunConfig
from infoutil_jax.app.verbs.run import Run
from infoutil_jax.data.sources import open_source
from infoutil_jax.training.config import StudentConfig, TeacherConfig

CONFIG = RunConfig(
    images_per_class=3,
    baseline=False,
    recipe=RecipeConfig("rded", tiles=4),
    teacher=TeacherConfig(width=8, mean=(0.25,), flip=False),
    student=StudentConfig(seeds=(4, 7), cutmix=False, crop_scale=(0.5, 1.0)),
)


def test_what_is_spelled_is_read_back():
    """By the parser of the command line itself."""
    command = command_of("run", open_source("digits", seed=2), CONFIG)
    words = shlex.split(command)
    assert words[:3] == ["infoutil", "run", "digits"]
    read = tyro.cli(Run, args=words[2:])
    assert read.config == CONFIG
    assert (read.data.image_size, read.data.split_seed) == (8, 2)


@pytest.mark.parametrize(
    ("shape", "asked"),
    [
        ((24, 40, 3), {"image_size": "auto", "channels": 1}),
        ((24, 40, 3), {"image_size": (12, 20), "seed": 3}),
        ((16, 16, 5), {"channels": 2, "value_range": (-4.0, 300.0)}),
        ((16, 16, 4), {"background": (255, 0, 10)}),
    ],
)
def test_the_command_opens_the_same_images(shape, asked, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            image = rng.integers(0, 255, shape)
            if "value_range" in asked:
                np.save(tmp_path / name / f"{i}.npy", image.astype(np.uint16))
            else:
                Image.fromarray(image.astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    source = open_source(f"folder:{tmp_path}", **asked)
    words = shlex.split(command_of("run", source, RunConfig()))
    assert tyro.cli(Run, args=words[2:]).data.open().fingerprint() == source.fingerprint()


def test_channels_that_images_have_anyway_are_not_spelled():
    assert source_flags(open_source("digits", channels=1)) == []
    assert source_flags(open_source("digits", channels=3)) == ["--channels", "3"]


def test_defaults_are_not_spelled():
    assert spelled(RunConfig()) == []
    assert command_of("run", open_source("digits"), RunConfig()) == (
        "infoutil run digits --image-size 8"
    )
