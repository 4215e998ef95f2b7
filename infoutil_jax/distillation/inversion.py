"""The conductor of SRe2L: images recovered from a trained network alone, written as a set.

Yin, Xing & Shen, "Squeeze, Recover and Relabel", NeurIPS 2023. The training-based counterpart of
`distill`: no training image is read, pixels are optimised until the teacher sees their class in
them and its batch normalisation layers see the statistics that they remember
(`training.recover`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from infoutil_jax import provenance
from infoutil_jax.data.distilled import DistilledDataset, check_destination, write_distilled
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation.checks import check_teacher
from infoutil_jax.distillation.labels import label_crops
from infoutil_jax.distillation.manifest import inputs
from infoutil_jax.errors import InputError
from infoutil_jax.progress import Bar
from infoutil_jax.training.recover import Inversion, invert, objective
from infoutil_jax.training.teacher import Teacher


def sre2l(
    source: Source,
    teacher: Teacher,
    *,
    images_per_class: int,
    workdir: str | Path,
    label_teacher: Teacher | None = None,
    settings: Inversion = Inversion(),
    seed: int = 0,
    overwrite: bool = False,
) -> DistilledDataset:
    """Recovers `images_per_class` images a class from the teacher, with soft labels.

    Every image starts as Gaussian noise and minimises, on a random view of its own in each
    iteration, with Adam (betas 0.5 and 0.9) and a rate that falls to zero along a cosine,

        cross-entropy + bn_weight * sum over layers of ||m - M|| + ||v - V||

    where m, v are mean and variance of the batch at a batch normalisation layer's input and M, V
    the running ones; the first layer's term counts `first_bn_multiplier` times. After each step
    pixels are clipped to the range of valid ones. The last iterate is kept.

    Source: the paper's "recover" stage and the authors' code. There one view's box serves a whole
    batch; here each image draws its own, from its own key. A progress line is shown on a terminal.

    Args:
        source: gives classes and image size; none of its images is read.
        teacher: what is inverted: an NNX module with batch normalisation, by `as_predict`.
        images_per_class: the budget.
        workdir: where the set is written: a new or empty folder, or with `overwrite` a set's.
        label_teacher: labels the images; None is `teacher`.
        settings: of the optimisation.
        seed: of noise and views. Same seed, same bytes.
        overwrite: replace a distilled set that is already there.

    Returns:
        The distilled set, loaded from disk. Its records have no origin: `source`, `example`,
        `crop`, `box` and `map` are None; `score` is the teacher's cross-entropy on the image as
        stored, `rank` counts the images of a class.

    Raises:
        InputError: in one sentence, before anything is written.

    Examples:
        >>> sre2l(source, teacher, images_per_class=10, workdir="sets")  # doctest: +SKIP
    """
    label_teacher = label_teacher or teacher
    classes = len(source.class_names)
    settings = settings.resolve(source)
    if images_per_class < 1:
        raise InputError(f"images_per_class is {images_per_class}; it must be at least 1")
    own = label_teacher is teacher
    teacher = check_teacher(teacher, source)
    label_teacher = teacher if own else check_teacher(label_teacher, source)
    _check_invertible(teacher, source, settings)
    check_destination(workdir, overwrite=overwrite)

    # Round by round, one image of each class each. An image's random draws follow its number in
    # this order, so that a larger budget begins with the same noise.
    ids = np.arange(images_per_class * classes, dtype=np.uint32)
    batch_size = settings.batch_size or len(ids)
    parts = np.array_split(ids, -(-len(ids) // batch_size))
    recovered, total = [], len(parts) * settings.iterations
    with Bar("recovering", total, unit="iteration") as bar:
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
            "recipe": {"name": "sre2l", "settings": provenance.describe(settings)},
            "pool": 0,
            "seed": seed,
            **inputs(source, teacher, label_teacher, images_per_class),
        },
        overwrite=overwrite,
    )


def _record(score: float, rank: int) -> dict[str, Any]:
    origin = dict.fromkeys(("source", "example", "crop", "box", "map"))
    return {"tiles": [{**origin, "score": score, "rank": rank}]}


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
