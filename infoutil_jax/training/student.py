"""Students: networks trained from scratch on a small set, several seeds at once (JAX).

The protocol is RDED's, which InfoUtil follows. All epochs between two evaluations are one call of
one compiled program: set, augmentation, the teacher's labels and every step are on the device.
"""

import operator
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from tqdm.auto import tqdm

from infoutil_jax import models, parallel
from infoutil_jax.errors import InputError
from infoutil_jax.training.evaluation import Metrics, check_labelled, evaluate
from infoutil_jax.training.protocol import LabelPolicy, Protocol, program
from infoutil_jax.training.teacher import Teacher


class StudentResult(NamedTuple):
    """Students of all seeds, in the order of the seeds.

    Attributes:
        top1: after the last epoch, percent.
        top5: likewise.
        ece: expected calibration error after the last epoch, 0 to 1.
        top1_best: the best of the evaluated epochs, as RDED reports it; None without evaluation
            in between. It is chosen on the test images, hence flatters.
        loss: mean over seeds and steps of each epoch.
        variables: of each seed's student, stacked along a first axis.
        predict: `predict(variables, images) -> logits`, for one seed's variables.
        seconds: wall-clock time, compilation included.
    """

    top1: Float[np.ndarray, " seeds"]
    top5: Float[np.ndarray, " seeds"]
    ece: Float[np.ndarray, " seeds"]
    top1_best: Float[np.ndarray, " seeds"] | None
    loss: Float[np.ndarray, " epochs"]
    variables: dict[str, Any]
    predict: Callable[..., Array]
    seconds: float


def default_batch_size(images_per_class: int, num_classes: int) -> int:
    """RDED's batch size: 10, 50, 100 up to 1, 10 and more images a class.

    Twice that with 100 classes or more.
    """
    size = 10 if images_per_class <= 1 else 50 if images_per_class <= 10 else 100
    return size * (2 if num_classes >= 100 else 1)


def train_student(
    images: UInt8[np.ndarray, "*sets n height width channels"],
    labels: Int[np.ndarray, " labels"],
    test_images: UInt8[np.ndarray, "test test_height test_width test_channels"],
    test_labels: Int[np.ndarray, " test_labels"],
    *,
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    soft_labels: Float[np.ndarray, "soft_n tiles soft_classes"] | None = None,
    teacher: Teacher | None = None,
    label_policy: str = "online",
    backbone: str = "convnet3",
    width: int | None = None,
    norm: str | None = None,
    stem: str | None = None,
    dtype: str | None = None,
    remat: bool | None = None,
    epochs: int = 300,
    batch_size: int | None = None,
    learning_rate: float = 0.001,
    weight_decay: float = 0.01,
    temperature: float = 20.0,
    flip: bool = True,
    crop_scale: tuple[float, float] | None = None,
    cutmix: bool = True,
    shuffle: bool = True,
    autoaugment: str | None = None,
    tiles: int = 1,
    seeds: Sequence[int] = (0, 1, 2),
    seeds_at_once: int = 1,
    devices: parallel.Devices | None = None,
    evaluate_every: int | None = None,
    progress: bool = False,
) -> StudentResult:
    """Trains one student a seed on a small labelled set, and tests them.

    Views: AutoAugment where asked for, then the tiles are shuffled, then a random resized crop, a
    mirror image, CutMix. What a view is taught depends on `label_policy`:

    - "online": softmax(teacher(view) / temperature); the teacher sees every mixed view.
    - "stored": the mean of softmax(stored logits / temperature) over the tiles that the view
      shows, of the image and its CutMix partner, weighted by their areas.
    - "hard": the classes of the image and its partner, weighted by their areas.

    The loss of the first two is KL(target || softmax(student / temperature)), of the last the
    cross-entropy. AdamW (betas 0.9 and 0.999) with the rate
    `learning_rate * (1 + cos(pi e / 2E)) / 2` in epoch e of E. Source: RDED's code, which the
    InfoUtil paper follows.

    Args:
        images: pixels; or `[seeds, n, ...]`, of each seed its own set, with the same labels.
        labels: 0 to num_classes - 1.
        test_images: of any size; see `infoutil_jax.training.evaluation.view`.
        test_labels: likewise.
        num_classes: outputs.
        mean: of each channel, 0 to 1; the teacher's, where there is one.
        std: likewise.
        soft_labels: a teacher's logits on each tile; for "stored".
        teacher: for "online".
        label_policy: see above.
        backbone: a name of `infoutil_jax.models.BACKBONES`.
        width: the backbone's option of this name; None for its default.
        norm: likewise.
        stem: likewise.
        dtype: likewise: "bfloat16" computes in it, with parameters in float32.
        remat: likewise.
        epochs: passes over the set.
        batch_size: images a step, at most the set's size, the remainder of an epoch left out;
            None for the protocol's (`default_batch_size`).
        learning_rate: of the first epoch.
        weight_decay: on tensors of two or more dimensions.
        temperature: of the soft labels.
        flip: mirror at random; not for digits or letters.
        crop_scale: area of the random resized crop, low and high; None: from 1 / sqrt(tiles) to
            1, which leaves square images of one tile whole.
        cutmix: mix pairs of views.
        shuffle: change the tiles' places.
        autoaugment: a policy of `infoutil_jax.data.autoaugment.POLICIES`, or None.
        tiles: images in each image's square grid.
        seeds: one student each: of its weights, order and augmentation.
        seeds_at_once: students trained side by side. Their convolutions become grouped ones, so
            measure before you raise it. Changes results by rounding only.
        devices: that share the seeds, as many as divide them; None for the first.
        evaluate_every: epochs between evaluations, for `top1_best`.
        progress: show a progress line.

    Returns:
        Figures of all seeds.

    Raises:
        InputError: arguments that do not fit together.
    """
    started = time.perf_counter()
    count, size = images.shape[-4], (images.shape[-3], images.shape[-2])
    check_labelled(images.reshape(-1, *images.shape[-3:])[:count], labels, num_classes, "training")
    check_labelled(test_images, test_labels, num_classes, "test")
    _check(
        *(images, len(seeds), test_images, num_classes, mean, std),
        *(soft_labels, teacher, label_policy, tiles),
    )
    counts = (epochs, batch_size, seeds_at_once, evaluate_every)
    if min(count for count in counts if count is not None) < 1:
        raise InputError("epochs, batch_size, seeds_at_once and evaluate_every must be at least 1")
    if not seeds:
        raise InputError("no seed was given: each one is a student, give at least one")
    per_class = -(-count // num_classes)
    options = {"width": width, "norm": norm, "stem": stem, "dtype": dtype, "remat": remat}

    predict, apply, variables = models.initialise(
        backbone,
        seeds,
        num_classes=num_classes,
        image_size=size,
        channels=images.shape[-1],
        **{key: value for key, value in options.items() if value is not None},
    )
    online = teacher if label_policy == "online" else None
    shared = parallel.dividing(devices, len(seeds))
    each = len(seeds) // len(shared)
    init, run = program(
        Protocol(
            apply=apply,
            teach=online.predict if online else None,
            label_policy=label_policy,
            num_classes=num_classes,
            epochs=epochs,
            batch_size=min(batch_size or default_batch_size(per_class, num_classes), count),
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            temperature=temperature,
            flip=flip,
            crop_scale=crop_scale or (tiles**-0.5, 1.0),
            cutmix=cutmix,
            tiles=tiles,
            shuffle=shuffle,
            autoaugment=autoaugment,
            seeds_at_once=min(seeds_at_once, each),
        )
    )
    run = _by_device(run, shared)
    soft = soft_labels if label_policy == "stored" else np.zeros((count, 1, 1), np.float32)
    sets, one = (images, None) if images.ndim == 5 else (None, images)
    sets, data = jax.device_put((sets, (one, labels.astype(np.int32), soft)))
    context = {
        "mean": jnp.array(mean, jnp.float32),
        "std": jnp.array(std, jnp.float32),
        "teacher": online.variables if online else {},
    }
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    carry = (init(variables, count), jnp.zeros((len(seeds), epochs)))

    def test() -> list[Metrics]:
        each = [jax.tree.map(operator.itemgetter(i), carry[0].variables) for i in range(len(seeds))]
        return [
            evaluate(predict, v, test_images, test_labels, mean, std, image_size=size) for v in each
        ]

    best, done, step = np.zeros(len(seeds)), 0, evaluate_every or max(1, epochs // 20)
    with tqdm(total=epochs, desc="students", unit="epoch", disable=not progress) as bar:
        while done < epochs:
            stop = min(done + step, epochs)
            carry = run(carry, keys, sets, context, data, done, stop)
            loss = float(carry[1][:, done:stop].mean())
            if not np.isfinite(loss):
                raise InputError(
                    f"the students' loss is {loss} by epoch {stop}: lower the learning rate"
                )
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(stop - done)
            done = stop
            if evaluate_every:
                final = test()
                best = np.maximum(best, [metrics.top1 for metrics in final])
    final = final if evaluate_every else test()
    return StudentResult(
        top1=np.array([metrics.top1 for metrics in final]),
        top5=np.array([metrics.top5 for metrics in final]),
        ece=np.array([metrics.ece for metrics in final]),
        top1_best=best if evaluate_every else None,
        loss=np.asarray(carry[1]).mean(0),
        variables=carry[0].variables,
        predict=predict,
        seconds=time.perf_counter() - started,
    )


def _by_device(run, devices):
    """`run` with its seeds, the rows of the first three arguments, shared out."""
    if len(devices) == 1:
        return run
    shared = parallel.by_device(lambda *a: run(*a[4:], *a[:4]), devices, 4)
    return jax.jit(lambda carry, keys, sets, *others: shared(*others, carry, keys, sets))


def _check(
    images, seeds, test_images, num_classes, mean, std, soft_labels, teacher, label_policy, tiles
):
    """Raises InputError where arguments do not fit together."""
    count, height, width, channels = images.shape[-4:]
    if images.ndim == 5 and (len(images) != seeds or label_policy == "stored"):
        raise InputError(
            f"there are {len(images)} sets for {seeds} seeds and the label policy "
            f"{label_policy!r}: give each seed one set, and not the policy 'stored'"
        )
    if label_policy not in get_args(LabelPolicy):
        raise InputError(
            f"label policy {label_policy!r} is unknown: choose {', '.join(get_args(LabelPolicy))}"
        )
    if test_images.shape[3] != channels or {len(mean), len(std)} != {channels}:
        raise InputError(
            f"the images have {channels} channels but the test images {test_images.shape[3]}, "
            f"mean {len(mean)} and std {len(std)}: all four must agree"
        )
    side = round(tiles**0.5)
    if tiles < 1 or side**2 != tiles or height % side or width % side:
        raise InputError(
            f"images of {height}×{width} pixels have no square grid of {tiles} equal tiles: tiles "
            "must be a square number whose root divides height and width"
        )
    if label_policy == "online":
        if teacher is None:
            raise InputError("label policy 'online' needs a teacher: give one, or choose 'stored'")
        if teacher.num_classes not in (None, num_classes):
            raise InputError(
                f"teacher {teacher.name!r} has {teacher.num_classes} classes but the set "
                f"{num_classes}"
            )
        if teacher.channels != channels:
            raise InputError(
                f"teacher {teacher.name!r} takes {teacher.channels} channels but the images have "
                f"{channels}"
            )
        if teacher.image_size not in (None, (height, width)):
            raise InputError(
                f"teacher {teacher.name!r} takes {teacher.image_size[0]}×{teacher.image_size[1]} "
                f"pixels but the images have {height}×{width}"
            )
    if label_policy == "stored":
        if soft_labels is None:
            raise InputError("label policy 'stored' needs soft_labels [images, tiles, classes]")
        if soft_labels.shape != (count, tiles, num_classes):
            raise InputError(
                f"soft_labels have the shape {soft_labels.shape}: {count} images of {tiles} tiles "
                f"and {num_classes} classes need {(count, tiles, num_classes)}"
            )
        if not np.isfinite(soft_labels).all():
            wrong = int(np.argwhere(~np.isfinite(soft_labels))[0][0])
            raise InputError(f"soft_labels of image {wrong} hold a NaN or infinite logit")
