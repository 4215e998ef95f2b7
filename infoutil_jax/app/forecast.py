"""How long training will take here and how much memory, from a few steps of it (host)."""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from infoutil_jax import memory, models, parallel
from infoutil_jax.data.sources import Source
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.models import Architecture
from infoutil_jax.refine import Refiner
from infoutil_jax.training.config import BackboneConfig, StudentConfig, TeacherConfig
from infoutil_jax.training.student import default_batch_size

BATCH, STEPS = 16, 3
RESIDENT = 2**30
"""Bytes of pixels that a teacher's training keeps on the device at most."""


class Cost(NamedTuple):
    """What training a network takes here.

    Attributes:
        seconds: an image, forward and backward.
        activations: bytes for each image of a step, of what XLA keeps between forward and backward.
        state: bytes of the weights, their gradient and an optimiser's two moments.
    """

    seconds: float
    activations: float
    state: int


def cost_of(config: BackboneConfig, source: Source) -> Cost:
    """Measures the fastest of a few steps on noise; memory is the compiler's own account.

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

    step = jax.jit(jax.grad(loss)).lower(variables["params"], images).compile()
    seconds = []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        jax.block_until_ready(step(variables["params"], images))
        seconds.append(time.perf_counter() - started)
    kept = getattr(step.memory_analysis(), "temp_size_in_bytes", 0)  # not every backend tells
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(variables["params"]))
    return Cost(min(seconds[1:]) / BATCH, kept / BATCH, 4 * weights)  # the first one warms up


def forecast(
    source: Source,
    budget: int,
    recipes: int,
    teacher: TeacherConfig | None,
    student: StudentConfig | None,
    *,
    refining: Sequence[Any] = (),
    own_sets: bool = False,
) -> str:
    """What there is to do, how long it will take here, and whether memory may not suffice.

    Training and refining are nearly all of the time.

    Args:
        source: what teachers are trained on.
        budget: distilled images a class, or tiles where students take them for images.
        recipes: on whose sets students are trained.
        teacher: its training; None for none.
        student: the training of each; None for none.
        refining: `Recipe.refine` of each set; functions of the user's own are not counted.
        own_sets: each seed has a set of its own.

    Returns:
        A sentence; or two lines, the second of which says what needs more memory than is left.
    """
    classes, pixels = len(source.class_names), source.channels
    pixels *= source.image_size[0] * source.image_size[1]
    todo, seconds, needs = list[str](), 0.0, dict[str, float]()
    if teacher is not None:
        teacher = teacher.resolve(source)
        epochs = (teacher.epochs or 0) + (teacher.early_epochs or 0)
        todo.append(f"{epochs} epochs of teachers on {len(source.train)} images")
        if epochs:
            cost, batch = cost_of(teacher, source), teacher.batch_size or 0
            seconds += epochs * len(source.train) * cost.seconds
            resident = min(RESIDENT, len(source.train) * pixels)
            needs["teachers"] = cost.activations * batch + cost.state + resident
    if refiners := [one for one in refining if isinstance(one, Refiner)]:
        count, steps = budget * classes, 0
        for one in refiners:
            steps += one.sized(count).steps
            seconds += one.passes(count) * cost_of(one.network, source).seconds
        todo.append(f"{steps} steps of refining")
    if student is not None:
        student, cost = student.resolve(source), cost_of(student, source)
        seeds, count = len(student.seeds), budget * classes
        students = recipes * seeds
        several = f"sets of {recipes} recipe{'s' * (recipes > 1)}"
        where = several if teacher is not None else f"{count} images"
        todo.append(f"{students} student{'s' * (students > 1)} on {where}")
        # A teacher that labels online looks at every view, forward only.
        online = 4 / 3 if student.labels == "online" else 1
        seconds += student.epochs * count * students * cost.seconds * online
        batch = min(count, student.batch_size or default_batch_size(budget, classes))
        # One at a time in a program means one a core of a CPU, see `train_student`.
        side_by_side = student.seeds_at_once > 1
        at_once = student.seeds_at_once if side_by_side else parallel.programs_at_once()
        held = count * pixels * (seeds if own_sets else 1) + cost.state * seeds
        needs["students"] = cost.activations * batch * min(at_once, seeds) + held
    minutes = max(1, round(seconds / 60))
    said = (
        f"{', then '.join(todo)}: about {minutes} minute{'s' * (minutes > 1)} "
        "if nothing is there yet"
    )
    return "\n".join([said, *short_of_memory(needs)])


def parts_of(recipe: Recipe, student: StudentConfig) -> int:
    """How many images students take each image of a recipe's set for."""
    return recipe.tiles if student.asked({"partition": recipe.parted}).partition else 1


def short_of_memory(needs: dict[str, float]) -> list[str]:
    """A sentence on the stage that needs the most, where that is more than is left; else none.

    Args:
        needs: bytes, about, by stage; stages come one after the other.
    """
    most = max(needs, key=needs.__getitem__, default=None)
    if most is None:
        return []
    return memory.short(f"{most} need", int(needs[most]), "a smaller batch_size or image_size")
