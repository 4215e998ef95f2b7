"""The command line that does what a call in Python did."""

import shlex

import tyro

from infoutil_jax.app.command_line import command_of, spelled
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


def test_defaults_are_not_spelled():
    assert spelled(RunConfig()) == []
    assert command_of("run", open_source("digits"), RunConfig()) == (
        "infoutil run digits --image-size 8"
    )
