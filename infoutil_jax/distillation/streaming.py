"""What a stream keeps of images that arrive, and the set that it makes of all so far (host)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, Int32, Shaped, UInt8

from infoutil_jax import parallel, provenance, ranges
from infoutil_jax.blocks import padded
from infoutil_jax.distillation.checks import check_shape_of
from infoutil_jax.distillation.config import StreamConfig
from infoutil_jax.distillation.distill import finalized, ranked, records_of, scorer_of
from infoutil_jax.distillation.examine import SELECT, Examined, examine, program_of, stream
from infoutil_jax.distillation.labels import label_crops, stored_labels
from infoutil_jax.distillation.manifest import by_teachers, parts_of
from infoutil_jax.distillation.refining import asked_of_students
from infoutil_jax.distillation.reserve import Reserve, State, followed
from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.image.resampling import extract
from infoutil_jax.method.contracts import Fitted, Reduce
from infoutil_jax.method.recipes import Recipe
from infoutil_jax.method.recipes.rule import rule_of
from infoutil_jax.training.config import Facts
from infoutil_jax.training.teacher import SEEN, Teacher

Images = UInt8[np.ndarray, "n height width channels"]
Labels = Int32[np.ndarray, " n"]
Names = Shaped[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What a stream was opened with.

    Attributes:
        teacher: attributes and scores, unless the recipe leaves that to the one that labels.
        label_teacher: labels the crops.
        recipe: the method.
        images_per_class: the budget.
        seed: of every random draw.
        config: batches, name, licence.

    Raises:
        InputError: a recipe that cannot stream, a teacher without names of classes, or a number out
            of its range.
    """

    teacher: Teacher
    label_teacher: Teacher
    recipe: Recipe
    images_per_class: int = 10
    seed: int = 0
    config: StreamConfig = StreamConfig()

    def __post_init__(self) -> None:
        ranges.check(self)
        _ = self.reduce, self.class_names

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of all classes that may come, in the order of the labels."""
        teacher, labeller = self.teacher, self.label_teacher
        names = labeller.class_names or teacher.class_names
        if names is None or len(names) < 2:
            raise InputError(
                f"teacher {labeller.name!r} does not name its classes, of which a stream has to "
                "know all beforehand: give Teacher(..., class_names=(...)), two or more"
            )
        if teacher.class_names not in (None, names):
            raise InputError(
                f"teachers {teacher.name!r} and {labeller.name!r} know other classes: give two of "
                "the same, in one order"
            )
        return names

    @property
    def per_class(self) -> int:
        """Crops of a class that the set holds."""
        return self.images_per_class * self.recipe.tiles

    @property
    def reduce(self) -> Reduce:
        """How the recipe's selector reduces a table."""
        recipe = self.recipe
        if recipe.refine is not None:
            raise InputError(
                f"recipe {recipe.name!r} refines pixels by all images, which a stream does not "
                "keep: choose one that refines nothing"
            )
        if isinstance(recipe.attribute, Fitted) and recipe.attribute.pilot:
            raise InputError(
                f"recipe {recipe.name!r} fits its prior to images of the whole pool, which a "
                "stream does not keep: fit nothing, as ShapleyConfig(pilot=0) does"
            )
        if (reduce := recipe.selector.reduce) is None:
            raise InputError(
                f"recipe {recipe.name!r} cannot stream: its selection compares all crops at once; "
                "choose one whose selector has a `reduce`"
            )
        return reduce

    def about(self) -> dict[str, Any]:
        """What a stream has to be opened with again; JSON can hold it."""
        return {
            "recipe": parts_of(self.recipe),
            "images_per_class": self.images_per_class,
            "seed": self.seed,
            "classes": list(self.class_names),
            "teacher": _told(self.teacher),
            "label_teacher": _told(self.label_teacher),
        }

    def teachers(self, shape: tuple[int, int, int]) -> tuple[Teacher, Teacher]:
        """The one that scores and the one that labels, with a mean for each channel.

        Raises:
            InputError: they take other images.
        """
        scorer = scorer_of(self.recipe, self.teacher, self.label_teacher)
        spec = "the stream"
        return check_shape_of(scorer, spec, shape), check_shape_of(self.label_teacher, spec, shape)


def _told(teacher: Teacher) -> dict[str, Any]:
    """What a teacher computes, as far as that can be told."""
    about = provenance.describe([teacher.architecture, teacher.version])
    return {
        "digest": teacher.digest(),
        "mean": list(teacher.mean),
        "std": list(teacher.std),
        "about": about,
    }


def full(plan: Plan, state: State) -> Int[np.ndarray, " full"]:
    """The classes of which enough images have come for the set."""
    return np.flatnonzero(state.counts >= plan.per_class)


def arrived(plan: Plan, state: State, images: Images, labels: Labels, names: Names) -> State:
    """The state after some more images; memory is that of the reserve and of one block.

    Args:
        plan: what the stream was opened with.
        state: where it stands.
        images: of the stream's size.
        labels: classes, indices into `plan.class_names`.
        names: of the images.

    Raises:
        InputError: images that a teacher does not take, or a part of the recipe that returns
            something else than it promises.
    """
    shape, size = images.shape[1:], plan.config.batch_size
    scorer, labeller = plan.teachers(shape)
    if state.reserve is None:
        for one in (scorer, labeller):
            _check_logits(one, shape, len(plan.class_names))
            one.warn_of_probabilities(images[:SEEN])
    tile_size = mosaic.tile_size(shape[:2], plan.recipe.tiles)
    about = plan.recipe.per_image, scorer, tile_size, plan.seed, parallel.devices_of(1)
    score = partial(examine, *program_of(*about))
    for start in range(0, len(images), size):
        some = slice(start, start + size)
        block, ours = images[some], labels[some]
        ids = np.arange(state.images, state.images + len(block))
        batch = (padded(a, size) for a in (block, ours, ids.astype(np.uint32)))
        rows = Examined.of(ids, ours, jax.device_get(score(*batch)))
        state = replace(
            state,
            counts=state.counts + np.bincount(ours, minlength=len(state.counts)),
            digest=followed(state.digest, block, ours),
            image_shape=shape,
            reserve=_kept(plan, state.reserve, rows, labeller, (block, names[some])),
        )
    return state


def _kept(
    plan: Plan,
    reserve: Reserve | None,
    rows: Examined,
    labeller: Teacher,
    block: tuple[Images, Names],
) -> Reserve:
    """The reserve with those crops of a block that can be chosen, without those that no longer can.

    Args:
        plan: says what can be chosen.
        reserve: from before.
        rows: of the block.
        labeller: labels its crops.
        block: its images, and their names.
    """
    (images, names), first = block, int(rows.candidates.ids[0])
    old = 0 if reserve is None else len(reserve.crops)
    every = rows if reserve is None else Examined.joined(reserve.rows, rows)
    chosen = plan.reduce(stream(plan.seed, SELECT), every.candidates, plan.per_class)
    places = every.places(chosen)
    kept = Examined(chosen, every.boxes[places], every.maps[places])
    new, stays = kept.take(np.flatnonzero(places >= old)), np.flatnonzero(places < old)
    local = new.candidates.ids - first
    crops = _cut(plan, images, local, new.boxes)
    logits = label_crops(labeller, crops, images.shape[1:3], plan.config.batch_size)
    for row in np.flatnonzero(~np.isfinite(logits).all(1))[:1]:
        raise InputError(
            f"teacher {labeller.name!r} has logits of {names[local[row]]} that are not all "
            "finite, which no set can hold: give one that returns logits"
        )
    found = Reserve(new, crops, logits, names[local])
    if reserve is not None:
        found = Reserve.joined(reserve.take(places[stays])._replace(rows=kept.take(stays)), found)
    candidates = found.rows.candidates
    return found.take(np.lexsort((candidates.crops, candidates.ids)))


def _cut(
    plan: Plan, images: Images, rows: Int[np.ndarray, " crops"], boxes: Int[np.ndarray, "crops 4"]
) -> UInt8[np.ndarray, "crops tile_height tile_width channels"]:
    """The pixels of crops of images in memory, cut as `read_crops` does."""
    size, most = mosaic.tile_size(images.shape[1:3], plan.recipe.tiles), plan.config.batch_size
    crops = np.empty((len(rows), *size, images.shape[3]), np.uint8)
    for start in range(0, len(rows), most):
        some = slice(start, start + most)
        which, where = images[rows[some]], boxes[some][:, None]
        cut = np.asarray(extract(padded(which, most), padded(where, most), size))
        crops[some] = cut[: len(which), 0]
    return crops


def contents(plan: Plan, state: State) -> dict[str, Any] | None:
    """What `write_distilled` is to write; None as long as not two classes are full."""
    there, reserve, shape = full(plan, state), state.reserve, state.image_shape
    if len(there) < 2 or reserve is None or shape is None:
        return None
    reserve = reserve.take(np.flatnonzero(np.isin(reserve.rows.candidates.labels, there)))
    kept = finalized(plan.recipe, plan.seed, reserve.rows, plan.per_class)
    chosen = reserve.take(reserve.rows.places(kept.candidates))
    rows = ranked(plan.recipe, (plan.images_per_class,) * len(there))
    labels = np.repeat(np.arange(len(there), dtype=np.int32), plan.images_per_class)
    soft_labels, about = stored_labels(plan.recipe, chosen.logits[:, there][rows], labels)
    return {
        "images": np.asarray(mosaic.assemble(chosen.crops[rows], shape[:2])),
        "labels": labels,
        "soft_labels": np.ascontiguousarray(soft_labels),
        "class_names": [plan.class_names[label] for label in there],
        "records": records_of(kept, chosen.names.tolist(), rows),
        "manifest": _manifest(plan, state, shape) | about,
    }


def _manifest(plan: Plan, state: State, shape: tuple[int, int, int]) -> dict[str, Any]:
    """How the set was made, and of how many images of each class; it names no image."""
    there, names = full(plan, state), plan.class_names
    came = np.flatnonzero(state.counts)
    facts = Facts(shape[:2], state.images, len(there), plan.config.name)
    recipe = parts_of(plan.recipe)
    about = by_teachers(facts, *plan.teachers(shape), plan.images_per_class)
    about["training"] |= asked_of_students(plan.recipe, plan.per_class, len(there))
    return {
        "recipe": recipe,
        "rule": rule_of(recipe),
        "seed": plan.seed,
        "pool": None,
        "alpha": shape[2] in (2, 4),
        "source": {
            "name": plan.config.name,
            "fingerprint": state.digest,
            "train_images": state.images,
        },
        "stream": {
            "images": {names[i]: int(state.counts[i]) for i in came},
            "waiting": [names[i] for i in np.setdiff1d(came, there)],
        },
        **about,
        **({} if plan.config.licence is None else {"licence": plan.config.licence}),
    }


def _check_logits(teacher: Teacher, shape: tuple[int, int, int], classes: int) -> None:
    count = teacher.classes_of(shape)
    if count != classes:
        raise InputError(
            f"teacher {teacher.name!r} gives {count} logits for {classes} names of classes; it "
            "should be one each"
        )
