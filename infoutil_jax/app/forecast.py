"""How long training will take here, from a few steps of it (host)."""

from __future__ import annotations

import operator
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from infoutil_jax import models
from infoutil_jax.data.sources import Source
from infoutil_jax.models import Architecture
from infoutil_jax.training.config import BackboneConfig, StudentConfig, TeacherConfig

BATCH, STEPS = 16, 3


def seconds_an_image(config: BackboneConfig, source: Source) -> float:
    """Of training, forward and backward, the fastest of a few steps on noise.

    Args:
        config: of the network.
        source: gives the size of its images, and the number of classes.
    """
    config = config.resolve(source)
    size, classes = source.image_size, len(source.class_names)
    options = tuple(sorted(config.options().items()))
    network = Architecture(config.backbone or "", classes, size, source.channels, options)
    _, apply, stacked = models.initialise(network, (0,))
    variables = jax.tree.map(operator.itemgetter(0), stacked)
    images = jax.random.normal(jax.random.key(0), (BATCH, *size, source.channels))

    def loss(params: Any, images: Array) -> Array:
        logits, _ = apply({**variables, "params": params}, images)
        labels = jnp.zeros(len(images), int)
        losses: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean()

    step, seconds = jax.jit(jax.grad(loss)), []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        jax.block_until_ready(step(variables["params"], images))
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:]) / BATCH  # the first has compiled it


def forecast(
    source: Source, budget: int, recipes: int, teacher: TeacherConfig, student: StudentConfig
) -> str:
    """What there is to do, and how long it will take here: training, which is nearly all of it.

    Args:
        source: what teachers are trained on.
        budget: distilled images a class.
        recipes: on whose sets students are trained.
        teacher: its training.
        student: the training of each.
    """
    teacher, student = teacher.resolve(source), student.resolve(source)
    students = recipes * len(student.seeds)
    epochs = (teacher.epochs or 0) + (teacher.early_epochs or 0)
    views = student.epochs * budget * len(source.class_names) * students
    seconds = views * seconds_an_image(student, source)
    if student.labels == "online":
        seconds *= 4 / 3  # the teacher looks at every view, forward only
    if epochs:
        seconds += epochs * len(source.train) * seconds_an_image(teacher, source)
    minutes = max(1, round(seconds / 60))
    return (
        f"{epochs} epochs of teachers on {len(source.train)} images, then {students} students on "
        f"sets of {recipes} recipe{'s' * (recipes > 1)}: about {minutes} "
        f"minute{'s' * (minutes > 1)} if nothing is there yet"
    )
