"""The conductor of SRe2L: images recovered from a trained network alone, written as a set.

Yin, Xing & Shen, "Squeeze, Recover and Relabel", NeurIPS 2023. The training-based counterpart of
`distill`: no training image is read, pixels are optimised until the teacher sees their class in
them and its batch normalisation layers see the statistics that they remember
(`training/recover.py`).
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

from infoutil_jax.data.distilled import DistilledDataset, check_destination, write_distilled
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation.checks import check_teacher
from infoutil_jax.distillation.distill import label_crops
from infoutil_jax.distillation.manifest import inputs
from infoutil_jax.errors import InputError
from infoutil_jax.training.recover import Inversion, invert, objective
from infoutil_jax.training.teacher import Teacher

# The side from which on the authors optimise random crops rather than whole images.
_CROPPED_FROM = 64


def sre2l(
    source: Source,
    teacher: Teacher,
    *,
    images_per_class: int,
    workdir: str | Path,
    label_teacher: Teacher | None = None,
    iterations: int = 1000,
    learning_rate: float = 0.25,
    bn_weight: float = 0.01,
    first_bn_multiplier: float = 10.0,
    crop_scale: tuple[float, float] | None = None,
    flip: bool | None = None,
    jitter: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> DistilledDataset:
    """Recover `images_per_class` images a class from the teacher, with soft labels.

    Every image starts as Gaussian noise and minimises, on a random view of its own in each
    iteration, with Adam (betas 0.5 and 0.9) and a rate that falls to zero along a cosine,

        cross-entropy + bn_weight * sum over layers of ||m - M|| + ||v - V||

    where m, v are mean and variance of the batch at a batch normalisation layer's input and M, V
    the running ones; the first layer's term counts `first_bn_multiplier` times. After each step
    pixels are clipped to the range of valid ones. The last iterate is kept.

    Source: the paper's "recover" stage, with the defaults of the authors' code (VILA-Lab/SRe2L)
    for CIFAR-100. For ImageNet-1k it takes 4000 iterations, for Tiny-ImageNet 4000 with rate 0.1
    and `bn_weight` 1. There one view's box serves a whole batch; here each image draws its own,
    from its own key.

    Args:
        source: gives classes and image size; none of its images is read.
        teacher: what is inverted: an NNX module with batch normalisation, by `as_predict`.
        images_per_class: the budget.
        workdir: where the set is written: a new or empty folder, or with `overwrite` a set's.
        label_teacher: labels the images; None is `teacher`.
        iterations: of Adam, for each batch.
        learning_rate: of the first iteration, in units of a channel's standard deviation.
        bn_weight: of the batch normalisation term against the cross-entropy.
        first_bn_multiplier: further weight of the first layer.
        crop_scale: area of the view's random resized crop, low and high, as a fraction; (1, 1) is
            the whole image. None: (0.08, 1) for sides from 64 pixels on, and the whole image below.
        flip: mirror views at random. None: from 64 pixels on. Not for digits or letters.
        jitter: largest circular shift of a view down and to the right, in pixels. None: an eighth
            of the shorter side.
        batch_size: images optimised together, which bounds the memory and is what the batch
            normalisation term compares: it changes the result. None: one image of each class, at
            most 100. Larger batches hold several images of each class.
        seed: of noise and views. Same seed, same bytes.
        overwrite: replace a distilled set that is already there.
        progress: show a progress line.

    Returns:
        The distilled set, loaded from disk. Its records have no origin: `source`, `example`,
        `crop`, `box` and `map` are None; `score` is the teacher's cross-entropy on the image as
        stored, `rank` counts the images of a class.

    Raises:
        InputError: in one sentence, before anything is written.

    Example:
        >>> sre2l(source, teachers["converged"], images_per_class=10, workdir="sets/sre2l")
    """
    label_teacher = label_teacher or teacher
    side, classes = min(source.image_size), len(source.class_names)
    settings = Inversion(
        iterations=iterations,
        learning_rate=learning_rate,
        bn_weight=bn_weight,
        first_bn_multiplier=first_bn_multiplier,
        crop_scale=crop_scale or ((0.08, 1.0) if side >= _CROPPED_FROM else (1.0, 1.0)),
        flip=side >= _CROPPED_FROM if flip is None else flip,
        jitter=side // 8 if jitter is None else jitter,
    )
    batch_size = min(classes, 100) if batch_size is None else batch_size
    _check(settings, images_per_class, batch_size, side)
    check_teacher(teacher, source)
    check_teacher(label_teacher, source)
    _check_invertible(teacher, source, settings)
    check_destination(workdir, overwrite=overwrite)

    # Round by round, one image of each class each. An image's random draws follow its number in
    # this order, so that a larger budget begins with the same noise.
    ids = np.arange(images_per_class * classes, dtype=np.uint32)
    parts = np.array_split(ids, -(-len(ids) // batch_size))
    recovered = []
    with tqdm(
        total=len(parts) * iterations, desc="recovering", unit="iteration", disable=not progress
    ) as bar:
        for part in parts:
            images, _ = invert(
                teacher, settings, source.image_size, part % classes, part, seed=seed, bar=bar
            )
            recovered.append(images)
    # Sets are stored class by class.
    by_class = ids.reshape(images_per_class, classes).T.ravel()
    images, labels = np.concatenate(recovered)[by_class], (by_class % classes).astype(np.int32)
    logits = label_crops(teacher, images, source.image_size, batch_size)
    soft_labels = (
        logits
        if label_teacher is teacher
        else label_crops(label_teacher, images, source.image_size, batch_size)
    )
    scores = np.asarray(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
    return write_distilled(
        workdir,
        images=images,
        labels=labels,
        soft_labels=soft_labels[:, None],
        class_names=source.class_names,
        records=[
            _record(float(score), int(i // classes))
            for score, i in zip(scores, by_class, strict=True)
        ],
        manifest={
            "recipe": {"name": "sre2l", **asdict(settings), "batch_size": batch_size},
            "images_per_class": images_per_class,
            "pool": 0,
            "seed": seed,
            **inputs(source, teacher, label_teacher),
        },
        overwrite=overwrite,
    )


def _record(score: float, rank: int) -> dict:
    origin = dict.fromkeys(("source", "example", "crop", "box", "map"))
    return {"tiles": [{**origin, "score": score, "rank": rank}]}


def _check(settings: Inversion, images_per_class: int, batch_size: int, side: int) -> None:
    counts = {
        "images_per_class": images_per_class,
        "iterations": settings.iterations,
        "batch_size": batch_size,
    }
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} is {count}; it must be at least 1.")
    if not 0 < settings.learning_rate < np.inf:
        raise InputError(
            f"learning_rate is {settings.learning_rate}; it must be positive and finite."
        )
    for name in ("bn_weight", "first_bn_multiplier"):
        if not 0 <= getattr(settings, name) < np.inf:
            raise InputError(
                f"{name} is {getattr(settings, name)}; it must be finite and not negative."
            )
    scale = settings.crop_scale
    if not isinstance(scale, tuple) or len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise InputError(
            f"crop_scale is {scale}; it must be a tuple of two fractions, low then high."
        )
    if not 0 <= settings.jitter < side:
        raise InputError(
            f"jitter is {settings.jitter} pixels; it must be at least 0 and below the images' "
            f"shorter side, {side}."
        )


def _check_invertible(teacher: Teacher, source: Source, settings: Inversion) -> None:
    """Traces the objective, which finds a network without statistics before any work."""
    images = jax.ShapeDtypeStruct((1, *source.image_size, source.channels), jnp.float32)
    label = jax.ShapeDtypeStruct((1,), jnp.int32)
    try:
        jax.eval_shape(
            partial(objective, teacher.predict, settings), teacher.variables, images, label
        )
    except InputError as error:
        raise InputError(f"teacher {teacher.name!r} cannot be inverted: {error}") from None
