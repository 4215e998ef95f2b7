"""Checks that source, teacher, recipe and budget fit together, before any work starts (host)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from infoutil_jax import memory
from infoutil_jax.data.sources import Source
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.training.teacher import SEEN, Teacher


def check_budget(
    source: Source, recipe: Recipe, ipc: int, pool: int | None, forgotten: tuple[int, ...] = ()
) -> None:
    """Checks that every class and its pool hold `ipc * recipe.tiles` images, and memory the set.

    Args:
        source: of the images.
        recipe: says how many crops an image holds.
        ipc: distilled images a class.
        pool: training images of a class that compete; None for all.
        forgotten: training images, by number, that take no part.

    Raises:
        InputError: naming the class and its count, or what the set would take; or a number that no
            training image has.
    """
    if max(forgotten, default=0) >= len(source.train):
        raise InputError(
            f"forgotten has image {max(forgotten)}; {source.spec} has {len(source.train)} training "
            "images, numbered from 0"
        )
    if ipc < 1:
        raise InputError(f"images_per_class is {ipc}; it must be at least 1.")
    needed = ipc * recipe.tiles
    if pool is not None and pool < needed:
        raise InputError(
            f"a pool of {pool} images a class is too small for {ipc} distilled images of "
            f"{recipe.tiles} tile(s): it must be at least {needed}."
        )
    labels = np.delete(source.train.labels, forgotten)
    counts = np.bincount(labels, minlength=len(source.class_names))
    if counts.min() < needed:
        smallest = int(counts.argmin())
        without = " without those that are to be forgotten" if forgotten else ""
        raise InputError(
            f"class {source.class_names[smallest]!r} of {source.spec} has {counts[smallest]} "
            f"training images{without}; {ipc} distilled images of {recipe.tiles} tile(s) need "
            f"{needed}."
        )
    # Crops, and the images that they make, are held at once.
    pixels = 2 * ipc * len(counts) * source.image_size[0] * source.image_size[1] * source.channels
    instead = "lower images_per_class or image_size"
    memory.check(f"a set of {ipc} images of each of {len(counts)} classes", pixels, instead)


def check_by_class(
    by_class: tuple[int, ...] | None, source: Source, ipc: int, recipe: Recipe
) -> None:
    """Checks that there is a number of images for each class, 1 to `ipc`, all alike if refined.

    Raises:
        InputError: there is not.
    """
    if by_class is None:
        return
    classes = len(source.class_names)
    if len(by_class) != classes or min(by_class) < 1 or max(by_class) > ipc:
        raise InputError(
            f"by_class is {by_class}; it must be a number from 1 to {ipc}, the images_per_class, "
            f"for each of {classes} classes"
        )
    if recipe.refine is not None and len(set(by_class)) > 1:
        raise InputError(
            f"recipe {recipe.name!r} refines as many images of each class, but they are to have "
            f"{min(by_class)} to {max(by_class)}: take one number for all, or a recipe that does "
            "not refine"
        )


def check_teacher(teacher: Teacher, source: Source) -> Teacher:
    """Checks that a teacher takes the source's images and knows its classes.

    One whose outputs on some of the images look like probabilities is warned of.

    Returns:
        The teacher, with a mean and a deviation for each channel.

    Raises:
        InputError: another channel count, image size or class count, or other classes.
    """
    teacher = check_shape_of(teacher, source.spec, (*source.image_size, source.channels))
    classes = teacher.classes_of((*source.image_size, source.channels))
    if classes != len(source.class_names):
        raise InputError(
            f"teacher {teacher.name!r} gives {classes} logits but {source.spec} has "
            f"{len(source.class_names)} classes."
        )
    if teacher.class_names not in (None, source.class_names):
        pairs = itertools.zip_longest(teacher.class_names, source.class_names)
        number, (theirs, ours) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
        raise InputError(
            f"class {number} of teacher {teacher.name!r} is {theirs!r} but {source.spec} has "
            f"{ours!r} there: give it a teacher of its own classes, in their order."
        )
    some = np.arange(min(SEEN, len(source.train)))
    for _, images in source.train.batches(some, SEEN):
        teacher.warn_of_probabilities(images)
    return teacher


def check_shape_of(teacher: Teacher, spec: str, image_shape: tuple[int, int, int]) -> Teacher:
    """Checks that a teacher takes images of a height, a width and so many channels.

    Args:
        teacher: the teacher.
        spec: what the images come from, for the sentence.
        image_shape: (height, width, channels).

    Returns:
        The teacher, with a mean and a deviation for each channel.

    Raises:
        InputError: it takes others.
    """
    here, across, channels = image_shape
    teacher = teacher.of_channels(channels)
    if teacher.channels != channels:
        raise InputError(
            f"teacher {teacher.name!r} takes images of {teacher.channels} channels but "
            f"{spec} has {channels}: open it with channels={teacher.channels}"
        )
    if teacher.image_size not in (None, (here, across)):
        height, width = teacher.image_size
        size = str(height) if height == width else f"({height}, {width})"
        raise InputError(
            f"teacher {teacher.name!r} takes images of {height}×{width} pixels but "
            f"{spec} has {here}×{across}: open it with image_size={size}"
        )
    return teacher


def check_shape(what: str, array: Any, shape: tuple[int | None, ...]) -> None:
    """Checks the shape of what a part of a recipe returns; None stands for any size.

    Raises:
        InputError: naming the function and both shapes.
    """
    fits = len(array.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise InputError(
            f"the recipe's {what} returned an array of shape {array.shape}; it must be [{wanted}]."
        )


def check_columns(what: str, columns: Any, rows: int) -> None:
    """Checks that a part of a recipe returns columns by name, each of so many rows.

    Raises:
        InputError: naming the function and what it returned.
    """
    if not isinstance(columns, Mapping):
        raise InputError(
            f"the recipe's {what} returned {type(columns).__name__}; it must return columns by "
            'name, such as {"mine": array}.'
        )
    for name, column in columns.items():
        if not column.ndim or len(column) != rows:
            raise InputError(
                f"the recipe's {what} returned a column {name!r} of shape {column.shape}; its "
                f"first axis must be the {rows} crops."
            )
