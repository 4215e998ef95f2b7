"""Students: networks trained from scratch on a small set, several seeds at once (JAX).

The protocol is RDED's, which InfoUtil follows. All epochs between two evaluations are one call of
one compiled program: set, augmentation, the teacher's labels and every step are on the device.
"""

from __future__ import annotations

import hashlib
import json
import operator
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from infoutil_jax import models, parallel, provenance
from infoutil_jax.data.augment import Normalisation
from infoutil_jax.data.streamed import Pixels, fingerprint
from infoutil_jax.errors import InputError
from infoutil_jax.models import Architecture
from infoutil_jax.progress import Bar
from infoutil_jax.training.classifier import Classifier
from infoutil_jax.training.config import Facts, StudentConfig
from infoutil_jax.training.evaluation import Metrics, TestView, evaluate
from infoutil_jax.training.labelled import Labelled
from infoutil_jax.training.latest import Latest
from infoutil_jax.training.protocol import Protocol, program
from infoutil_jax.training.renewal import Renewal
from infoutil_jax.training.supervision import Supervision

SAVING = 0.02
"""The most of the time that may go into keeping students' state."""


class StudentResult(NamedTuple):
    """Students of all seeds, in the order of the seeds.

    Attributes:
        top1: after the last epoch, percent.
        top5: likewise.
        ece: expected calibration error after the last epoch, 0 to 1.
        confusion: test images by class and by the class that a student took them for.
        reliability: of each bin of confidence, see `Metrics`.
        test_view: what of each test image they saw.
        top1_best: the best of the evaluated epochs, as RDED reports it; None without evaluation
            in between. It is chosen on the test images, hence flatters.
        loss: mean over seeds and steps of each epoch.
        variables: of each seed's student, stacked along a first axis.
        predict: `predict(variables, images) -> logits`, for one seed's variables.
        seconds: wall-clock time, compilation included; of a training that has gone on after a stop,
            with what came before.
    """

    top1: Float[np.ndarray, " seeds"]
    top5: Float[np.ndarray, " seeds"]
    ece: Float[np.ndarray, " seeds"]
    confusion: Int[np.ndarray, "seeds classes classes"]
    reliability: Float[np.ndarray, "seeds bins 3"]
    test_view: TestView
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
    train: tuple[UInt8[Pixels, "*sets n height width channels"], Int[np.ndarray, " labels"]],
    test: tuple[
        UInt8[Pixels, "test test_height test_width test_channels"],
        Int[np.ndarray, " test_labels"],
    ],
    config: StudentConfig = StudentConfig(),
    *,
    supervision: Supervision,
    devices: parallel.Devices | None = None,
    folder: str | Path | None = None,
    progress: bool = False,
    renewal: Renewal | None = None,
) -> StudentResult:
    """Trains one student a seed on a small labelled set, and tests them.

    With `config.partition` each tile is an image of its own, enlarged: there is one tile then.

    Views: AutoAugment where asked for, then the tiles are shuffled, then a random resized crop, a
    mirror image, a turn, DSA's colours and cutout where asked for, CutMix. What a view is taught
    depends on `config.labels`:

    - "online": softmax(teacher(view) / temperature); the teacher sees every mixed view.
    - "stored": the mean of softmax(stored logits / temperature) over the tiles that the view
      shows, of the image and its CutMix partner, weighted by their areas.
    - "hard": the classes of the image and its partner, weighted by their areas.

    The loss of the first two is KL(target || softmax(student / temperature)), of the last the
    cross-entropy. AdamW (betas 0.9 and 0.999) with the rate
    `learning_rate * (1 + cos(pi e / 2E)) / 2` in epoch e of E. Source: RDED's code, which the
    InfoUtil paper follows.

    Args:
        train: images and labels, as `Labelled`; or of each seed its own images,
            `[seeds, n, ...]`, and soft labels, with the same labels.
        test: images of any size (see `infoutil_jax.training.evaluation.view`) and labels.
        config: the network and its training. Resolve it by the source where the images are digits
            or letters: arrays do not tell that they must not be mirrored.
        supervision: the teacher or its labels, the number of classes, and the normalisation.
        devices: that share the seeds, as many as divide them; None for the first.
        folder: where the state is kept meanwhile, below a name of these arguments: a training that
            was stopped goes on, and ends in the same numbers. Saving takes 2% of the time at most.
            Remove it once the result is written. None keeps nothing, and nor is anything kept where
            the teacher's `predict` is a function of yours without a `version`.
        progress: show a progress line.
        renewal: `train` is a reserve, of which each student chooses anew, every few epochs, what it
            trains on; None: it trains on all of it.

    Returns:
        Figures of all seeds.

    Raises:
        InputError: arguments that do not fit together, or a damaged state in `folder`.
        OSError: the state cannot be written.

    Examples:
        >>> teaching = Supervision(num_classes=10, teacher=teacher)  # doctest: +SKIP
        >>> train_student(train, test, supervision=teaching)  # doctest: +SKIP
    """
    started = time.perf_counter()
    # Students learn from what is in memory, on the device even.
    train, test = Labelled(np.asarray(train[0]), train[1]), Labelled(*test)
    supervision.check(train, test, config.labels or "online")
    if config.partition and supervision.tiles > 1:
        if renewal is not None:
            raise InputError("with a renewal there is no partition: choose one of them")
        train, supervision = supervision.partitioned(train)
    size, renewed = (train.images.shape[-3], train.images.shape[-2]), renewal is not None
    num_classes, seeds = supervision.num_classes, config.seeds
    begun = np.arange(train.images.shape[-4]) if renewal is None else renewal.first(train.labels)
    count = len(begun)
    config = config.complete(Facts(size, count, num_classes)).effective()
    if train.images.ndim == 5 and len(train.images) != len(seeds):
        raise InputError(
            f"there are {len(train.images)} sets for {len(seeds)} seeds: give each seed one set"
        )
    if renewal is not None and (train.images.ndim == 5 or config.evaluate_every):
        raise InputError(
            "with a renewal all seeds share one reserve and are tested in the end: give one set, "
            "and no evaluate_every"
        )
    options = tuple(sorted(config.options().items()))
    network = Architecture(
        config.backbone or "", num_classes, size, train.images.shape[-1], options
    )
    predict, apply, variables = models.initialise(network, seeds)
    online = supervision.teacher if config.labels == "online" else None
    per_class = -(-count // num_classes)
    batch_size = config.batch_size or default_batch_size(per_class, num_classes)
    protocol = Protocol(
        apply=apply,
        teach=online.predict if online else None,
        # One program serves all seeds, whenever they are evaluated.
        config=replace(config, seeds=(), evaluate_every=None),
        num_classes=num_classes,
        batch_size=min(batch_size, count),
        tiles=supervision.tiles,
    )
    cropped = protocol.crop_scale[0] < 1
    test_view: TestView = config.test_view or ("centre" if cropped else "whole")
    init, run = program(protocol)
    shared = parallel.dividing(devices, len(seeds))
    if len(shared) > 1:
        run = _by_device(run, shared)
    elif config.seeds_at_once == 1 and shared[0].platform == "cpu":
        run = _by_core(run)
    soft = np.zeros((*train.images.shape[:-3], 1, 1), np.float32)
    if config.labels == "stored" and supervision.soft_labels is not None:
        soft = supervision.soft_labels
    labels, own = train.labels[begun].astype(np.int32), train.images.ndim == 5
    # What the seeds share, and what each has of its own.
    data = (None, labels, None) if own or renewed else (train.images, labels, soft)
    sets, data = jax.device_put(((train.images, soft) if own else None, data))
    mean, std = supervision.scale()
    context = {
        "normalise": Normalisation.of(mean, std),
        "teacher": online.variables if online else {},
    }
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    carry = (init(variables, count), jnp.zeros((len(seeds), config.epochs)))

    def variables_of() -> list[Any]:
        return [jax.tree.map(operator.itemgetter(i), carry[0].variables) for i in range(len(seeds))]

    def chosen(renewal: Renewal, epoch: int) -> Any:
        """What each seed trains on from an epoch on."""
        rows = [begun] * len(seeds)
        if epoch:
            draws = [jax.random.fold_in(jax.random.key(seed), epoch) for seed in seeds]
            rows = [
                renewal.chosen((predict, each), context["normalise"], train, key)
                for each, key in zip(variables_of(), draws, strict=True)
            ]
        return jax.device_put((train.images[np.stack(rows)], soft[np.stack(rows)]))

    def metrics() -> list[Metrics]:
        each = variables_of()
        students = [Classifier(predict, variables, mean, std) for variables in each]
        return [evaluate(one, test, image_size=size, test_view=test_view) for one in students]

    final: list[Metrics] = []
    best, before = np.zeros(len(seeds)), np.zeros(1)  # figures, and seconds of earlier runs
    step = config.evaluate_every or (renewal.every if renewal else max(1, config.epochs // 20))
    about = config, (train, test), supervision, renewal
    place = None if folder is None else _place(Path(folder), *about)
    with Latest(place, SAVING) as kept:
        done, (carry, best, before) = kept.latest((carry, best, before))
        carry = jax.tree.map(jnp.asarray, carry)
        with Bar("students", config.epochs, unit="epoch", done=done, shown=progress) as bar:
            while done < config.epochs:
                stop = min(done + step, config.epochs)
                if renewal is not None:
                    sets = chosen(renewal, done)
                carry = run(carry, keys, sets, context, data, done, stop)
                loss = float(carry[1][:, done:stop].mean())
                if not np.isfinite(loss):
                    raise InputError(
                        f"the students' loss is {loss} by epoch {stop}: lower the learning rate"
                    )
                figures = {"loss": loss}
                if config.evaluate_every:
                    final = metrics()
                    best = np.maximum(best, [student.top1 for student in final])
                    figures["top1"] = float(np.mean([student.top1 for student in final]))
                kept.save(stop, (carry, best, before + (time.perf_counter() - started)))
                bar.update(stop - done, **figures)
                done = stop
    final = final or metrics()
    return StudentResult(
        top1=np.array([student.top1 for student in final]),
        top5=np.array([student.top5 for student in final]),
        ece=np.array([student.ece for student in final]),
        confusion=np.stack([student.confusion for student in final]),
        reliability=np.stack([student.reliability for student in final]),
        test_view=test_view,
        top1_best=best if config.evaluate_every else None,
        loss=np.asarray(carry[1]).mean(0),
        variables=carry[0].variables,
        predict=predict,
        seconds=time.perf_counter() - started + float(before[0]),
    )


def _by_device(run: Callable[..., Any], devices: parallel.Devices) -> Callable[..., Any]:
    """`run` with its seeds, the rows of the first three arguments, shared out."""
    shared = parallel.by_device(lambda *a: run(*a[4:], *a[:4]), devices, 4)
    return jax.jit(lambda carry, keys, sets, *others: shared(*others, carry, keys, sets))


def _by_core(run: Callable[..., Any]) -> Callable[..., Any]:
    """`run` with each seed by itself, as many at once as a CPU has cores."""

    def each(carry: Any, keys: Any, sets: Any, *others: Any) -> Any:
        mine = [
            jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], (carry, keys, sets))
            for i in range(len(keys))
        ]
        # No epoch of the first one: threads would all compile the same program.
        *shared, first, _ = others
        mine[0] = (run(*mine[0], *shared, first, first), *mine[0][1:])
        done = parallel.by_core(lambda one: jax.block_until_ready(run(*one, *others)), mine)
        return jax.tree.map(lambda *rows: jnp.concatenate(rows), *done)

    return each


def _place(
    folder: Path,
    config: StudentConfig,
    data: tuple[Labelled, Labelled],
    supervision: Supervision,
    renewal: Renewal | None,
) -> Path | None:
    """Where the state of these students is kept, by all that it depends on; None for nowhere."""
    (train, test), teacher = data, supervision.teacher if config.labels == "online" else None
    if teacher is not None and not teacher.is_named():
        return None
    about = [
        [provenance.describe(config), supervision.num_classes, supervision.tiles],
        [supervision.scale(), provenance.versions(), train.images.shape],
        # Students never see the test images; the best of several epochs does depend on them.
        fingerprint(*test) if config.evaluate_every else None,
        provenance.describe(renewal),
    ]
    if teacher is not None:
        told = [teacher.version, teacher.architecture, teacher.predict]
        about += [provenance.describe(told), teacher.digest()]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    soft = supervision.soft_labels if config.labels == "stored" else None
    for array in (train.images, train.labels, soft):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return folder / digest.hexdigest()[:16]
