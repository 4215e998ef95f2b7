"""Teachers: trained classifiers that attribute, score and label (training in JAX).

`train_teacher` writes its working directory with Orbax and can be killed at any time: called
again, it goes on from the last finished epoch and ends with the same bytes.
"""

import hashlib
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from jaxtyping import Array, Int, UInt8
from tqdm.auto import tqdm

from infoutil_jax import models
from infoutil_jax.data import augment
from infoutil_jax.errors import InputError
from infoutil_jax.training import checkpoint, fit, forgetting
from infoutil_jax.training.evaluation import check_labelled, evaluate


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained classifier, ours or the user's.

    Attributes:
        predict: `predict(variables, images) -> logits`, images normalised float32
            `[batch, height, width, channels]`; hashable.
        variables: its arrays, all finite.
        mean: of each channel of its training images, 0 to 1.
        std: likewise, positive.
        image_size: height and width it takes; None for any.
        num_classes: logits it gives; None if not known.
        class_names: of the logits, in order.
        name: for people.
        stage: of its training, "early" or "converged".
        accuracy: top-1 on the test images, percent.

    Raises:
        InputError: a NaN or infinite weight, or a mean and a std that do not fit.

    Example:
        >>> Teacher(predict, variables, mean=(0.5,), std=(0.25,))
    """

    predict: Callable[..., Array]
    variables: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: tuple[int, int] | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    name: str = "user"
    stage: str = "converged"
    accuracy: float | None = None

    def __post_init__(self):
        if len(self.mean) != len(self.std) or not self.mean:
            raise InputError(
                f"teacher {self.name!r} has {len(self.mean)} means and {len(self.std)} standard "
                "deviations: give one of each per channel"
            )
        if min(self.std) <= 0:
            raise InputError(f"teacher {self.name!r} has std {self.std}: each must be positive")
        for path, leaf in _leaves(self.variables):
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
                raise InputError(
                    f"teacher {self.name!r} has a weight in {path} that is NaN or infinite: "
                    "train it again, or load another checkpoint"
                )

    @property
    def channels(self) -> int:
        """Channels of the images it takes."""
        return len(self.mean)

    def digest(self) -> str:
        """SHA-256 of the variables, with names, types and shapes, in hexadecimal."""
        digest = hashlib.sha256()
        for path, leaf in _leaves(self.variables):
            digest.update(f"{path} {leaf.dtype} {leaf.shape}\n".encode())
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()


def _leaves(variables: Any) -> list[tuple[str, np.ndarray]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    named = [(jax.tree_util.keystr(path), np.asarray(leaf)) for path, leaf in leaves]
    return sorted(named, key=lambda pair: pair[0])


def train_teacher(
    images: UInt8[np.ndarray, "n height width channels"],
    labels: Int[np.ndarray, " labels"],
    test_images: UInt8[np.ndarray, "test height width channels"],
    test_labels: Int[np.ndarray, " test_labels"],
    *,
    workdir: str | Path,
    backbone: str = "convnet3",
    width: int | None = None,
    norm: str | None = None,
    num_classes: int,
    class_names: Sequence[str] | None = None,
    epochs: int = 30,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    weight_decay: float = 5e-4,
    early_epochs: int = 10,
    early_schedule: str = "constant",
    early_optimiser: str = "adamw",
    early_learning_rate: float = 0.001,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Teacher]:
    """Trains the early and the converged teacher, or goes on with it, or just loads them.

    The converged teacher: SGD with Nesterov momentum 0.9 and a one-cycle schedule, on reflected
    and shifted (by an eighth of the side: 4 pixels of 32) and mirrored images.

    The early teacher is, by default, a run of its own at a constant rate (InfoUtil: 10 epochs at
    0.001 for CIFAR, 0.01 for larger images). The paper does not name the optimiser. We take
    AdamW, under which those rates are customary; SGD hardly moves at 0.001. The cheap alternative
    is the converged run as it is after `early_epochs`.

    Args:
        images: pixels, all of them in the host's memory.
        labels: 0 to num_classes - 1.
        test_images: for the accuracy that is stored with each stage.
        test_labels: likewise.
        workdir: a new or empty directory, or one of an earlier call with the same arguments. It
            also gets what `load_forgetting` reads, of the converged teacher's run.
        backbone: a name of `infoutil_jax.models.BACKBONES`.
        width: the backbone's option of this name; None for its default.
        norm: likewise.
        num_classes: outputs.
        class_names: of the outputs, in order.
        epochs: of the converged teacher.
        batch_size: images a step; the remainder of an epoch is left out.
        learning_rate: peak of the one-cycle schedule.
        weight_decay: on all parameters.
        early_epochs: of the early teacher.
        early_schedule: "constant", its own run; "same_run", the converged run's state.
        early_optimiser: of its own run.
        early_learning_rate: of its own run.
        flip: mirror at random; not for digits or letters.
        mean: of each channel, 0 to 1; None: measured on `images`.
        std: likewise.
        seed: of weights, order and augmentation. Same seed, same bytes, on one kind of device
            and one version of JAX; elsewhere the same but for rounding.
        progress: show a progress line.

    Returns:
        `{"early": ..., "converged": ...}`

    Raises:
        InputError: labels, options or data that do not fit, or a `workdir` that holds something
            else.
    """
    check_labelled(images, labels, num_classes, "training")
    check_labelled(test_images, test_labels, num_classes, "test")
    if min(epochs, early_epochs, batch_size) < 1:
        raise InputError(
            f"epochs, early_epochs and batch_size must be at least 1, got {epochs}, "
            f"{early_epochs} and {batch_size}"
        )
    if early_schedule not in ("constant", "same_run") or early_optimiser not in ("adamw", "sgd"):
        raise InputError(
            f"early_schedule {early_schedule!r} or early_optimiser {early_optimiser!r} is unknown: "
            "choose constant or same_run, and adamw or sgd"
        )
    if early_schedule == "same_run" and early_epochs >= epochs:
        raise InputError(
            f"the early teacher is to be epoch {early_epochs} of a run of {epochs} epochs, the "
            "last of which is the converged one: lower early_epochs, or choose "
            "early_schedule='constant'"
        )
    if class_names is not None and len(class_names) != num_classes:
        raise InputError(f"{len(class_names)} class names were given for {num_classes} classes")
    if mean is None or std is None:
        mean, std = augment.channel_statistics(images)
    options = {"width": width, "norm": norm}
    config = {
        "format": 1,
        "data": checkpoint.fingerprint(images, labels),
        "test_data": checkpoint.fingerprint(test_images, test_labels),
        "backbone": backbone,
        "options": {key: value for key, value in options.items() if value is not None},
        "image_size": list(images.shape[1:3]),
        "num_classes": num_classes,
        "class_names": None if class_names is None else list(class_names),
        "mean": [float(value) for value in mean],
        "std": [float(value) for value in std],
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "early_epochs": early_epochs,
        "early_schedule": early_schedule,
        "early_optimiser": early_optimiser,
        "early_learning_rate": early_learning_rate,
        "flip": flip,
        "seed": seed,
    }
    models.outline(**_backbone(config))  # tells of impossible options before anything is written
    workdir = Path(workdir).absolute()
    checkpoint.claim(workdir, config)

    total = epochs * fit.steps_per_epoch(len(images), batch_size)
    onecycle = _sgd(optax.cosine_onecycle_schedule(total, learning_rate), weight_decay)
    constant = {"adamw": optax.adamw, "sgd": _sgd}[early_optimiser]
    early = constant(early_learning_rate, weight_decay=weight_decay)
    # Each run's optimiser, and its stages by the epoch after which they are taken.
    runs: dict[str, tuple[optax.GradientTransformation, dict[int, str]]]
    if early_schedule == "same_run":
        runs = {"converged": (onecycle, {early_epochs: "early", epochs: "converged"})}
    else:
        runs = {
            "early": (early, {early_epochs: "early"}),
            "converged": (onecycle, {epochs: "converged"}),
        }

    for name, (optimiser, stages) in runs.items():
        if set(stages.values()) <= set(checkpoint.finished(workdir)):
            continue
        _train(
            workdir,
            config,
            name,
            optimiser,
            stages,
            (images, labels),
            (test_images, test_labels),
            progress,
        )
    return {stage: load_teacher(workdir, stage) for stage in ("early", "converged")}


def _sgd(rate: optax.ScalarOrSchedule, weight_decay: float) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=0.9, nesterov=True)
    )


def _train(workdir, config, name, optimiser, stages, train, test, progress):
    """One run, from its last finished epoch to its last stage."""
    predict, apply, stacked = models.initialise(seeds=(config["seed"],), **_backbone(config))
    variables = jax.tree.map(operator.itemgetter(0), stacked)
    mean, std = jnp.array(config["mean"], jnp.float32), jnp.array(config["std"], jnp.float32)
    padding = min(config["image_size"]) // 8

    def view(context, key, batch):
        images, labels = batch
        crop_key, flip_key = jax.random.split(key)
        images = augment.normalise(augment.pad_crop(crop_key, images, padding), mean, std)
        if config["flip"]:
            images, _ = augment.horizontal_flip(flip_key, images)
        return images, labels

    def loss(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    counting = "converged" in stages.values()
    counts = forgetting.start(len(train[0])) if counting else None
    observe = forgetting.correct if counting else None
    training = fit.Fit(apply, view, loss, optimiser, config["batch_size"], observe)
    state, last = training.init(variables), max(stages)
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    with ocp.CheckpointManager(workdir / "running" / name, options=options) as manager:
        done, (state, counts) = checkpoint.resume(manager, (state, counts))
        state = jax.tree.map(jnp.asarray, state)
        key = jax.random.key(config["seed"])
        with tqdm(total=last, initial=done, desc=f"{name} teacher", disable=not progress) as bar:
            trained = fit.epochs(training, state, key, train, first=done, stop=last)
            for epoch, state, value, seen in trained:
                if not np.isfinite(value):
                    raise InputError(
                        f"the {name} teacher's loss is {value} after epoch {epoch + 1}: lower "
                        "its learning rate"
                    )
                if seen is not None:
                    counts = forgetting.count(counts, seen.rows, seen.values)
                if stage := stages.get(epoch + 1):
                    metrics = evaluate(
                        predict, state.variables, test[0], test[1], config["mean"], config["std"]
                    )
                    if stage == "converged":
                        forgetting.save(workdir, counts, epoch + 1)
                    checkpoint.save_stage(workdir, stage, state.variables, epoch + 1, metrics.top1)
                manager.save(epoch + 1, args=ocp.args.StandardSave((state, counts)))
                bar.set_postfix(loss=f"{value:.3f}", refresh=False)
                bar.update()


def load_teacher(workdir: str | Path, stage: str = "converged") -> Teacher:
    """A teacher that `train_teacher` has finished.

    Args:
        workdir: the directory that was given to `train_teacher`.
        stage: "early" or "converged".

    Raises:
        InputError: no such directory or stage, or files that cannot be read.
    """
    workdir = Path(workdir).absolute()
    config = checkpoint.read_config(workdir)
    predict, like = models.outline(**_backbone(config))
    variables, accuracy = checkpoint.load_stage(workdir, stage, like)
    return Teacher(
        predict,
        variables,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        image_size=(config["image_size"][0], config["image_size"][1]),
        num_classes=config["num_classes"],
        class_names=None if config["class_names"] is None else tuple(config["class_names"]),
        name=config["backbone"],
        stage=stage,
        accuracy=accuracy,
    )


def _backbone(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `models.create`."""
    return {
        "name": config["backbone"],
        "num_classes": config["num_classes"],
        "image_size": (config["image_size"][0], config["image_size"][1]),
        "channels": len(config["mean"]),
        **config["options"],
    }
