"""Training teachers, early and converged, from scratch or from torchvision's weights (JAX).

`train_teacher` writes its working directory with Orbax and can be killed at any time: called
again, it goes on from the last finished epoch and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jaxtyping import Array, Int, Key, UInt8

from infoutil_jax import locks, models, parallel
from infoutil_jax.data import augment
from infoutil_jax.data.streamed import Pixels, fingerprint
from infoutil_jax.errors import InputError
from infoutil_jax.models import torch_files, torch_weights
from infoutil_jax.progress import Bar
from infoutil_jax.training import checkpoint, fit, forgetting
from infoutil_jax.training.classifier import Classifier, checked_scale
from infoutil_jax.training.config import Facts, TeacherConfig
from infoutil_jax.training.evaluation import balanced_accuracy, evaluate, model_logits
from infoutil_jax.training.labelled import Labelled
from infoutil_jax.training.teacher import Teacher, architecture_of, load_teachers

MOST_EVALUATED = 5000  # training images

# Functions of evaluation and training, and the variables to begin with.
_Start = tuple[models.Predict, models.Train, dict[str, Any]]


def train_teacher(
    train: tuple[UInt8[Pixels, "n height width channels"], Int[np.ndarray, " labels"]],
    test: tuple[UInt8[Pixels, "test height width channels"], Int[np.ndarray, " test_labels"]],
    config: TeacherConfig = TeacherConfig(),
    *,
    workdir: str | Path,
    classes: Sequence[str] | int,
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

    With `config.weights` the converged run starts from a file of torchvision's (see
    `load_torchvision`; the classifier is replaced where the number of classes is another); with no
    epochs the file is the converged teacher. The early teacher's own run starts from scratch all
    the same.

    Args:
        train: images and labels, as `Labelled`. Images are in the host's memory, or come from disk
            as they are needed (`Split.labelled` of a large source).
        test: likewise, for the accuracy that is stored with each stage.
        config: the network and its training. Resolve it by the source where the images are digits
            or letters: arrays do not tell that they must not be mirrored.
        workdir: a new or empty directory, or one of an earlier call with the same arguments. It
            also gets what `load_forgetting` reads, of the converged teacher's run.
        classes: their names, in the order of the labels, or how many there are.
        seed: of weights, order and augmentation. Same seed, same bytes, on one kind of device
            and one version of JAX; elsewhere the same but for rounding.
        devices: that share each batch, as many as divide it; None for the first. They change
            results by rounding only.
        progress: show a progress line.

    Returns:
        The teachers by stage, "early" and "converged", the first only where there is one.

    Raises:
        InputError: labels, settings or data that do not fit, or a `workdir` that holds something
            else.

    Examples:
        >>> config = TeacherConfig(backbone="resnet18").resolve(source)  # doctest: +SKIP
        >>> teachers = train_teacher(  # doctest: +SKIP
        ...     source.train.labelled(),
        ...     source.test.labelled(),
        ...     config,
        ...     workdir="teacher",
        ...     classes=source.class_names,
        ... )
    """
    train, test = Labelled(*train), Labelled(*test)
    num_classes = classes if isinstance(classes, int) else len(classes)
    train.check(num_classes, "training")
    test.check(num_classes, "test")
    height, width = train.images.shape[1:3]
    config = config.complete(Facts((height, width), len(train.labels), num_classes))
    record = _record(config, train, test, classes, seed)
    # Impossible options and weights that do not fit are told of before anything is written.
    models.outline(architecture_of(record))
    workdir = Path(workdir).absolute()
    loaded = None
    if config.weights is not None and "converged" not in checkpoint.finished(workdir):
        loaded = _load(record, config.weights)
    runs, data = list(_runs(record, len(train.labels))), _Data(train, test, devices, progress)
    if not checkpoint.is_of(workdir, record, [s for run in runs for s in run.stages.values()]):
        with locks.locked(workdir):
            checkpoint.claim(workdir, record)
            for run in runs:
                if not set(run.stages.values()) <= set(checkpoint.finished(workdir)):
                    start = loaded if run.name == "converged" else None
                    _train(run, start or _fresh(record), data, workdir)
    else:
        locks.sweep(workdir)
    return load_teachers(workdir)


def _record(
    config: TeacherConfig,
    train: Labelled,
    test: Labelled,
    classes: Sequence[str] | int,
    seed: int,
) -> dict[str, Any]:
    """What `config.json` holds: everything that the teachers depend on."""
    num_classes = classes if isinstance(classes, int) else len(classes)
    options, digest = config.options(), None
    if config.weights is not None:
        tensors = torch_files.read_tensors(config.weights)
        options = torch_weights.options_in(config.backbone or "", tensors) | options
        found = torch_weights.classes_in(tensors)
        if not config.epochs and found != num_classes:
            raise InputError(
                f"{config.weights} tells {found} classes apart and the data has {num_classes}: its "
                "classifier must be trained anew, for at least 1 epoch"
            )
        digest = hashlib.sha256(config.weights.read_bytes()).hexdigest()
    mean, std = _scale(config, train.images)
    record = {
        "format": 1,
        "data": fingerprint(*train),
        "test_data": fingerprint(*test),
        "backbone": config.backbone,
        "options": options,
        "image_size": list(train.images.shape[1:3]),
        "num_classes": num_classes,
        "class_names": None if isinstance(classes, int) else list(classes),
        "mean": mean,
        "std": std,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "early_epochs": config.early_epochs,
        "early_schedule": config.early_schedule,
        "early_optimiser": config.early_optimiser,
        "early_learning_rate": config.early_learning_rate,
        "flip": config.flip,
        "turn": config.turn,
        "seed": seed,
        "weights": digest,
    }
    left_out = checkpoint.LEFT_OUT.items()
    return {key: value for key, value in record.items() if (key, value) not in left_out}


def _scale(config: TeacherConfig, images: Pixels) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel: given, measured, or torchvision's."""
    channels, mean, std = images.shape[3], config.mean, config.std
    if mean is None or std is None:
        published = config.weights is not None and channels == 3
        usual = torch_weights.IMAGENET if published else augment.channel_statistics(images)
        mean, std = usual[0] if mean is None else mean, usual[1] if std is None else std
    mean, std = checked_scale("the teacher to be trained", mean, std)
    if len(mean) not in (1, channels):
        raise InputError(
            f"mean is {mean} and std {std}; images of {channels} channels need one of each per "
            "channel"
        )
    times = channels // len(mean)
    return list(mean) * times, list(std) * times


def _fresh(record: Mapping[str, Any]) -> _Start:
    predict, apply, stacked = models.initialise(architecture_of(record), (record["seed"],))
    return predict, apply, jax.tree.map(operator.itemgetter(0), stacked)


def _load(record: Mapping[str, Any], weights: Path) -> _Start:
    network = architecture_of(record)
    module = torch_weights.load_torchvision(
        network.name,
        weights,
        num_classes=network.num_classes,
        image_size=network.image_size,
        channels=network.channels,
        rngs=nnx.Rngs(record["seed"]),
        **dict(network.options),
    )
    predict, variables = models.as_predict(module)
    return predict, models.as_train(module)[0], variables


@dataclass(frozen=True, eq=False)
class _Run:
    """One training from its start to its last stage.

    Attributes:
        name: of the run.
        optimiser: with its schedule.
        stages: what is kept, by the epoch after which it is taken.
        record: the content of `config.json`.
    """

    name: str
    optimiser: optax.GradientTransformation
    stages: Mapping[int, str]
    record: Mapping[str, Any]

    def training(
        self, apply: models.Train, num_images: int, devices: parallel.Devices | None
    ) -> fit.Fit:
        """How to train."""
        size = min(self.record["batch_size"], num_images)
        observe = forgetting.correct if self.counts else None
        shared = parallel.dividing(devices, size)
        return fit.Fit(apply, self._view, _loss, self.optimiser, size, observe, shared)

    @property
    def counts(self) -> bool:
        """Whether forgetting events are counted."""
        return "converged" in self.stages.values()

    def _view(
        self, context: None, key: Key[Array, ""], batch: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        images, labels = batch
        normalise = augment.Normalisation.of(self.record["mean"], self.record["std"])
        crop_key, flip_key = jax.random.split(key)
        images = augment.pad_crop(crop_key, images, min(self.record["image_size"]) // 8)
        images = normalise(images)
        if self.record["flip"]:
            images, _ = augment.horizontal_flip(flip_key, images)
        if self.record.get("turn"):
            images, _ = augment.quarter_turns(jax.random.fold_in(key, 2), images)
        return images, labels


@dataclass(frozen=True, eq=False)
class _Data:
    """What every run is given."""

    train: Labelled
    test: Labelled
    devices: parallel.Devices | None
    progress: bool

    @property
    def some(self) -> Labelled:
        """Training images, evenly taken: choices may be made by what a teacher knows of them."""
        step = -(-len(self.train.labels) // MOST_EVALUATED)
        return Labelled(self.train.images[::step], self.train.labels[::step])


def _runs(record: Mapping[str, Any], num_images: int) -> Iterator[_Run]:
    """The runs that make all stages, the early teacher's own first."""
    epochs, early_epochs = record["epochs"], record["early_epochs"]
    decay, stages = record["weight_decay"], {epochs: "converged"}
    if early_epochs and record["early_schedule"] == "constant":
        constant = {"adamw": optax.adamw, "sgd": _sgd}[record["early_optimiser"]]
        optimiser = constant(record["early_learning_rate"], weight_decay=decay)
        yield _Run("early", optimiser, {early_epochs: "early"}, record)
    elif early_epochs:
        stages = {early_epochs: "early", epochs: "converged"}
    total = epochs * fit.steps_per_epoch(num_images, record["batch_size"])
    onecycle = optax.cosine_onecycle_schedule(max(total, 1), record["learning_rate"])
    yield _Run("converged", _sgd(onecycle, decay), stages, record)


def _sgd(rate: optax.ScalarOrSchedule, weight_decay: float) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.sgd(rate, momentum=0.9, nesterov=True)
    )


def _loss(logits: Array, labels: Array) -> Array:
    losses: Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def _train(run: _Run, start: _Start, data: _Data, workdir: Path) -> None:
    """One run, from its last finished epoch to its last stage."""
    predict, apply, variables = start

    def keep(epoch: int, variables: dict[str, Any]) -> None:
        mean, std = tuple(run.record["mean"]), tuple(run.record["std"])
        model = Classifier(predict, variables, mean, std)
        record = {
            "epoch": epoch,
            "accuracy": evaluate(model, data.test).top1,
            "known": balanced_accuracy(model_logits(model, data.some.images), data.some.labels),
        }
        checkpoint.save_stage(workdir, run.stages[epoch], variables, record)

    if 0 in run.stages:
        keep(0, variables)
        return
    counts = forgetting.start(len(data.train.labels)) if run.counts else None
    training = run.training(apply, len(data.train.labels), data.devices)
    state, last = training.init(variables), max(run.stages)
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    with ocp.CheckpointManager(workdir / "running" / run.name, options=options) as manager:
        done, (state, counts) = checkpoint.resume(manager, (state, counts))
        state = jax.tree.map(jnp.asarray, state)
        key, what = jax.random.key(run.record["seed"]), f"{run.name} teacher"
        with Bar(what, last, unit="epoch", done=done, shown=data.progress) as bar:
            trained = fit.epochs(training, state, key, data.train, first=done, stop=last)
            for epoch, state, loss, seen in trained:
                if not np.isfinite(loss):
                    raise InputError(
                        f"the {what}'s loss is {loss} after epoch {epoch + 1}: lower "
                        "its learning rate"
                    )
                if counts is not None and seen is not None:
                    counts = forgetting.count(counts, seen.rows, seen.values)
                    if run.stages.get(epoch + 1) == "converged":
                        forgetting.save(workdir, counts, epoch + 1)
                if epoch + 1 in run.stages:
                    keep(epoch + 1, state.variables)
                with checkpoint.saving(workdir, (state, counts)):
                    manager.save(epoch + 1, args=ocp.args.StandardSave((state, counts)))
                bar.update(loss=loss)
