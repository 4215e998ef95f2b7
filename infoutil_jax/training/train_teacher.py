"""Training teachers, early and converged, from scratch or from torchvision's weights (JAX).

`train_teacher` writes its working directory with Orbax and can be killed at any time: called
again, it goes on from the last finished epoch and ends with the same bytes.
"""

import hashlib
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jaxtyping import Int, UInt8
from tqdm.auto import tqdm

from infoutil_jax import models, parallel
from infoutil_jax.data import augment
from infoutil_jax.errors import InputError
from infoutil_jax.models import torch_weights
from infoutil_jax.training import checkpoint, fit, forgetting
from infoutil_jax.training.evaluation import check_labelled, evaluate
from infoutil_jax.training.teacher import Teacher, backbone_of, load_teachers


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
    stem: str | None = None,
    dtype: str | None = None,
    remat: bool | None = None,
    weights: str | Path | None = None,
    num_classes: int,
    class_names: Sequence[str] | None = None,
    epochs: int = 30,
    batch_size: int = 128,
    learning_rate: float | None = None,
    weight_decay: float = 5e-4,
    early_epochs: int = 10,
    early_schedule: str = "constant",
    early_optimiser: str = "adamw",
    early_learning_rate: float = 0.001,
    flip: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    devices: parallel.Devices | None = None,
    progress: bool = False,
) -> dict[str, Teacher]:
    """Trains the early and the converged teacher, or goes on with it, or just loads them.

    The converged teacher: SGD with Nesterov momentum 0.9 and a one-cycle schedule, on reflected
    and shifted (by an eighth of the side: 4 pixels of 32) and mirrored images.

    The early teacher is, by default, a run of its own at a constant rate (InfoUtil: 10 epochs at
    0.001 for CIFAR, 0.01 for larger images). The paper does not name the optimiser. We take
    AdamW, under which those rates are customary; SGD hardly moves at 0.001. The cheap alternative
    is the converged run as it is after `early_epochs`.

    With `weights` the converged run starts from a file of torchvision's; with no epochs the file
    is the converged teacher. The early teacher's own run starts from scratch all the same.

    Args:
        images: pixels, all of them in the host's memory.
        labels: 0 to num_classes - 1.
        test_images: for the accuracy that is stored with each stage.
        test_labels: likewise.
        workdir: a new or empty directory, or one of an earlier call with the same arguments. It
            also gets what `load_forgetting` reads, of the converged teacher's run.
        backbone: a name of `infoutil_jax.models.BACKBONES`.
        width: the backbone's option of this name; None for its default, or with weights for
            what the file shows.
        norm: likewise.
        stem: likewise.
        dtype: likewise: "bfloat16" computes in it, with parameters in float32.
        remat: likewise.
        weights: a `.safetensors` or `.pth` file of this backbone (see `load_torchvision`); the
            classifier is replaced where the number of classes is another.
        num_classes: outputs.
        class_names: of the outputs, in order.
        epochs: of the converged teacher; 0 only with weights, to take them as they are.
        batch_size: images a step; the remainder of an epoch is left out.
        learning_rate: peak of the one-cycle schedule; None: 0.1, or 0.01 from weights.
        weight_decay: on all parameters.
        early_epochs: of the early teacher; 0 for none.
        early_schedule: "constant", its own run; "same_run", the converged run's state.
        early_optimiser: of its own run.
        early_learning_rate: of its own run.
        flip: mirror at random; not for digits or letters.
        mean: of each channel, 0 to 1; None: measured on `images`, or ImageNet's with weights.
        std: likewise.
        seed: of weights, order and augmentation. Same seed, same bytes, on one kind of device
            and one version of JAX; elsewhere the same but for rounding.
        devices: that share each batch, as many as divide it; None for the first. They change
            results by rounding only.
        progress: show a progress line.

    Returns:
        `{"early": ..., "converged": ...}`, the first only where there is one.

    Raises:
        InputError: labels, options or data that do not fit, or a `workdir` that holds something
            else.
    """
    check_labelled(images, labels, num_classes, "training")
    check_labelled(test_images, test_labels, num_classes, "test")
    if min(epochs + (weights is not None), early_epochs + 1, batch_size) < 1:
        raise InputError(
            "epochs and batch_size must be at least 1 (without weights), and early_epochs at least "
            f"0, got {epochs}, {batch_size} and {early_epochs}"
        )
    if early_schedule not in ("constant", "same_run") or early_optimiser not in ("adamw", "sgd"):
        raise InputError(
            f"early_schedule {early_schedule!r} or early_optimiser {early_optimiser!r} is unknown: "
            "choose constant or same_run, and adamw or sgd"
        )
    if early_schedule == "same_run" and early_epochs >= max(epochs, 1):
        raise InputError(
            f"the early teacher is to be epoch {early_epochs} of a run of {epochs} epochs, the "
            "last of which is the converged one: lower early_epochs, or choose "
            "early_schedule='constant'"
        )
    if class_names is not None and len(class_names) != num_classes:
        raise InputError(f"{len(class_names)} class names were given for {num_classes} classes")
    given = {"width": width, "norm": norm, "stem": stem, "dtype": dtype, "remat": remat}
    options = {key: value for key, value in given.items() if value is not None}
    digest = None
    if weights is not None:
        tensors = torch_weights.read_tensors(weights)
        options = torch_weights.options_in(backbone, tensors) | options
        found = torch_weights.classes_in(tensors)
        if not epochs and found != num_classes:
            raise InputError(
                f"{weights} tells {found} classes apart and the data has {num_classes}: its "
                "classifier must be trained anew, for at least 1 epoch"
            )
        digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    if mean is None or std is None:
        published = weights is not None and images.shape[3] == 3
        usual = torch_weights.IMAGENET if published else augment.channel_statistics(images)
        mean, std = usual[0] if mean is None else mean, usual[1] if std is None else std
    if not len(mean) == len(std) == images.shape[3] or min(std) <= 0:
        raise InputError(
            f"mean is {tuple(mean)} and std {tuple(std)}; images of {images.shape[3]} channels "
            "need one of each per channel, every std positive"
        )
    if learning_rate is None:
        learning_rate = 0.1 if weights is None else 0.01
    config = {
        "format": 1,
        "data": checkpoint.fingerprint(images, labels),
        "test_data": checkpoint.fingerprint(test_images, test_labels),
        "backbone": backbone,
        "options": options,
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
        "weights": digest,
    }
    # Impossible options and weights that do not fit are told of before anything is written.
    models.outline(**backbone_of(config))
    workdir = Path(workdir).absolute()
    done = "converged" in checkpoint.finished(workdir)
    loaded = None if weights is None or done else _load(config, weights)
    checkpoint.claim(workdir, config)

    total = epochs * fit.steps_per_epoch(len(images), batch_size)
    onecycle = _sgd(optax.cosine_onecycle_schedule(max(total, 1), learning_rate), weight_decay)
    constant = {"adamw": optax.adamw, "sgd": _sgd}[early_optimiser]
    early = constant(early_learning_rate, weight_decay=weight_decay)
    # Each run's start, its optimiser, and its stages by the epoch after which they are taken.
    runs: dict[str, tuple[_Start | None, optax.GradientTransformation, dict[int, str]]]
    runs = {"converged": (loaded, onecycle, {epochs: "converged"})}
    if early_epochs and early_schedule == "same_run":
        runs = {"converged": (loaded, onecycle, {early_epochs: "early", epochs: "converged"})}
    elif early_epochs:
        runs = {"early": (None, early, {early_epochs: "early"}), **runs}

    for name, (start, optimiser, stages) in runs.items():
        if set(stages.values()) <= set(checkpoint.finished(workdir)):
            continue
        _train(
            workdir,
            config,
            name,
            start or _fresh(config),
            optimiser,
            stages,
            (images, labels),
            (test_images, test_labels),
            devices,
            progress,
        )
    return load_teachers(workdir)


# Functions of evaluation and training, and the variables to begin with.
_Start = tuple[models.Predict, models.Train, dict[str, Any]]


def _fresh(config: dict[str, Any]) -> _Start:
    predict, apply, stacked = models.initialise(seeds=(config["seed"],), **backbone_of(config))
    return predict, apply, jax.tree.map(operator.itemgetter(0), stacked)


def _load(config: dict[str, Any], weights: str | Path) -> _Start:
    arguments = backbone_of(config)
    rngs = nnx.Rngs(config["seed"])
    module = torch_weights.load_torchvision(arguments.pop("name"), weights, rngs=rngs, **arguments)
    predict, variables = models.as_predict(module)
    return predict, models.as_train(module)[0], variables


def _sgd(rate: optax.ScalarOrSchedule, weight_decay: float) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=0.9, nesterov=True)
    )


def _train(workdir, config, name, start, optimiser, stages, train, test, devices, progress):
    """One run, from its last finished epoch to its last stage."""
    predict, apply, variables = start
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

    def keep(epoch, variables):
        images, labels = test
        metrics = evaluate(predict, variables, images, labels, config["mean"], config["std"])
        checkpoint.save_stage(workdir, stages[epoch], variables, epoch, metrics.top1)

    if 0 in stages:
        keep(0, variables)
        return
    counting = "converged" in stages.values()
    counts = forgetting.start(len(train[0])) if counting else None
    observe = forgetting.correct if counting else None
    size = min(config["batch_size"], len(train[0]))
    shared = parallel.dividing(devices, size)
    training = fit.Fit(apply, view, loss, optimiser, size, observe, shared)
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
                if stages.get(epoch + 1) == "converged":
                    forgetting.save(workdir, counts, epoch + 1)
                if epoch + 1 in stages:
                    keep(epoch + 1, state.variables)
                manager.save(epoch + 1, args=ocp.args.StandardSave((state, counts)))
                bar.set_postfix(loss=f"{value:.3f}", refresh=False)
                bar.update()
