"""Candidates tried by students: random sets of a shortlist, and what training on them tells (host).

In rounds, each of which trains students on random sets of the candidates that are left, measures
what each candidate adds (`infoutil_jax.method.datamodel`), and drops the lower half of each class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from jaxtyping import Float, Int, UInt8
from tqdm.auto import tqdm

from infoutil_jax import parallel
from infoutil_jax.data.sources import Source
from infoutil_jax.method import mosaic
from infoutil_jax.method.datamodel import Trials, deal, utilities
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.method.selection import Candidates, take
from infoutil_jax.options import StudentOptions
from infoutil_jax.training.student import train_student
from infoutil_jax.training.teacher import Teacher


def tried(
    source: Source,
    teacher: Teacher,
    recipe: Recipe,
    shortlist: Candidates,
    crops: UInt8[np.ndarray, "rows tile_height tile_width channels"],
    per_class: int,
    *,
    seed: int = 0,
    competed: Int[np.ndarray, " pool"] | None = None,
    devices: parallel.Devices | None = None,
    progress: bool = True,
) -> Candidates:
    """The `per_class` candidates of each class that help students most, best first.

    Args:
        source: gives the training images on which the students are tested.
        teacher: labels what they are trained on.
        recipe: its `trials` say how many, and how; its `tiles` how many crops share an image.
        shortlist: candidates, as many of every class, in the order of the classes.
        crops: their pixels.
        per_class: to keep; a multiple of the tiles.
        seed: of sets, students and test images.
        competed: training images that none of the students is tested on, where there are others;
            None for those of the shortlist.
        devices: that share the students.
        progress: show a progress line.

    Returns:
        Rows of the shortlist. Their scores are the measured utilities: points of accuracy on the
        images that test, above those of the average candidate.
    """
    classes, trials, tiles = len(source.class_names), recipe.trials, recipe.tiles
    size = len(shortlist.ids) // classes
    if trials is None or size == per_class:
        return shortlist
    rounds = math.ceil(math.log2(size / per_class))
    each = max(2, -(-trials.students // rounds))  # one outcome tells nothing of its parts
    slices = -(-each // trials.at_once)
    at_once = -(-each // slices)
    rng = np.random.default_rng(seed)
    seeds = int(rng.integers(2**30)) + np.arange(rounds * slices * at_once)
    test = held_out(source, shortlist.ids, trials.held_out, rng, competed=competed)

    rows = np.arange(classes * size).reshape(classes, size)  # of each class, those left
    held, outcomes = np.zeros((len(seeds), classes * size), bool), np.zeros(len(seeds))
    with tqdm(total=len(seeds), desc="trials", unit="student", disable=not progress) as bar:
        for done in range(0, len(seeds), at_once):
            now = slice(done, done + at_once)
            hands = [deal(rng, rows.shape[1], per_class, at_once) for _ in range(classes)]
            sets = np.stack([row[hand] for row, hand in zip(rows, hands, strict=True)], axis=1)
            sets = sets.reshape(at_once, classes * per_class)
            np.put_along_axis(held[now], sets, True, axis=1)
            outcomes[now] = accuracies(
                *(source, teacher, trials, crops, sets, test, seeds[now].tolist()),
                tiles=tiles,
                devices=devices,
            )
            bar.update(at_once)
            if (done + at_once) % (slices * at_once) == 0:
                utility = utilities(held[: now.stop], outcomes[: now.stop])
                left = max(per_class, -(-rows.shape[1] // 2))
                best = np.argsort(-utility[rows], axis=1, kind="stable")[:, :left]
                rows = np.take_along_axis(rows, best, axis=1)
    return take(shortlist._replace(scores=utility.astype(np.float32)), rows[:, :per_class].ravel())


def accuracies(
    source: Source,
    teacher: Teacher,
    trials: Trials,
    crops: UInt8[np.ndarray, "rows tile_height tile_width channels"],
    sets: Int[np.ndarray, "students per_set"],
    test: tuple[np.ndarray, np.ndarray],
    seeds: Sequence[int],
    *,
    tiles: int = 1,
    devices: parallel.Devices | None = None,
) -> Float[np.ndarray, " students"]:
    """Top-1, in percent, of one student a set, as the protocol has it but for its epochs.

    Args:
        source: gives the size of the images.
        teacher: labels what the students see.
        trials: which students, and how long they are trained.
        crops: pixels that the sets are made of.
        sets: rows of `crops`, by class, as many of each; consecutive ones share an image.
        test: images and labels.
        seeds: of each student.
        tiles: crops an image.
        devices: that share the students.
    """
    options = StudentOptions(
        backbone=trials.backbone, width=trials.width, epochs=trials.epochs, seeds=tuple(seeds)
    )
    chosen = asdict(options.resolve(source))
    del chosen["labels"], chosen["augment"]
    classes = len(source.class_names)
    images = np.asarray(mosaic.assemble(crops[sets.reshape(-1, tiles)], source.image_size))
    images = images.reshape(len(sets), -1, *images.shape[1:])
    return train_student(
        images,
        np.repeat(np.arange(classes, dtype=np.int32), images.shape[1] // classes),
        *test,
        num_classes=classes,
        mean=teacher.mean,
        std=teacher.std,
        teacher=teacher,
        tiles=tiles,
        devices=devices,
        **chosen,
    ).top1


def held_out(
    source: Source,
    shortlist: Int[np.ndarray, " ids"],
    count: int,
    rng: np.random.Generator,
    *,
    competed: Int[np.ndarray, " pool"] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` training images, of every class alike, and their labels.

    They are those that did not compete; where these leave a class empty, those that are not on the
    shortlist; where even these do, any.
    """
    labels, classes = source.train.labels, len(source.class_names)
    for taken in (shortlist if competed is None else competed, shortlist, np.empty(0, int)):
        others = np.setdiff1d(np.arange(len(labels)), taken)
        if len(np.unique(labels[others])) == classes:
            break
    order, each = rng.permutation(others), max(1, count // classes)
    chosen = np.sort(np.concatenate([order[labels[order] == c][:each] for c in range(classes)]))
    images = np.concatenate([batch for _, batch in source.train.batches(chosen, 64)])
    return images, labels[chosen]
