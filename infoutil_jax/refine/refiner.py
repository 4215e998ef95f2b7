"""The one loop of refinement: pixels and labels by gradient, whatever the objective (JAX).

A chunk of steps is one call of one compiled program, to which its batches of the pool are sent at
once. After each chunk the state is on disk, so that a run that was stopped ends in the
bytes of one that was not.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Key, UInt8

from infoutil_jax import provenance, ranges
from infoutil_jax.data.augment import Normalisation
from infoutil_jax.data.siamese import Siamese
from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import Pool
from infoutil_jax.models import Architecture
from infoutil_jax.progress import Bar
from infoutil_jax.refine.batches import drawn, gathered
from infoutil_jax.refine.contracts import Network, Objective
from infoutil_jax.refine.spectrum import measured
from infoutil_jax.refine.steps import Given, Learnt, Program, levels
from infoutil_jax.training.config import BackboneConfig, Facts
from infoutil_jax.training.latest import Latest

Labels = Literal["hard", "soft", "learnt"]


@dataclass(frozen=True)
class Refiner:
    """Refines pixels, and labels where asked for, by an objective's gradient.

    Attributes:
        objective: what the set is to be good for: `NeuralFeatureRegression`, `KernelRegression`,
            `DistributionMatching`, `TrajectoryMatching`, or your own `Objective`.
        steps: gradient steps, at most.
        steps_per_image: for each image that the objective sees, of which a small set takes fewer
            steps than `steps`; under a partition each tile is one. None: all take as many.
        learning_rate: of the pixels, in standard deviations of a channel or of a coefficient of the
            spectrum; Adam's, falling to nought along half a cosine.
        label_learning_rate: of learnt labels, in nats of their logits, and of what else the
            objective learns.
        labels: what the images are taken to be: "hard", their classes; "soft", what the teacher
            says of them, at the temperature; "learnt", which starts nine tenths hard
            and one tenth of all classes alike.
        temperature: of soft labels, at which students must read them, too.
        batch_size: real images a step, of all classes in proportion.
        mirrored: half of the real images, drawn anew for every step, are mirrored where the view
            may be. (`NeuralFeatureRegression.mirrored` is about the set's own.)
        view: in which the set is seen, one draw for all its images; never mirrored where the pool
            says that a mirror image shows something else.
        network: whose student the set is for; by default as a student's.
        partition: each tile is an image of its own, enlarged (IDC, IDM), for students that see them
            so (`StudentConfig.partition`), as the manifest says; else an image is what its tiles
            make together.
        total_variation: weight of the mean difference between neighbouring pixels.
        distance: weight of the mean squared distance from the start, in variances of a channel.
        spectral: steps are taken in the spectrum of the pool (`refine.spectrum`), coarse structure
            as fast as fine; else in pixels.
        quantise: the objective sees pixels as they are written, of 256 levels.
        chunk: steps between two saved states.

    Raises:
        InputError: a number out of its range.
    """

    objective: Objective
    steps: int = 2000
    steps_per_image: int | None = None
    learning_rate: float = 0.01
    label_learning_rate: float = 0.01
    labels: Labels = "hard"
    temperature: float = 1.0
    batch_size: int = 256
    mirrored: bool = True
    view: Siamese = field(default_factory=Siamese)
    network: BackboneConfig = field(default_factory=BackboneConfig)
    partition: bool = False
    total_variation: float = 0.0
    distance: float = 0.0
    spectral: bool = True
    quantise: bool = True
    chunk: int = 50

    def __post_init__(self) -> None:
        ranges.check_choice("labels", self.labels, get_args(Labels))
        ranges.check(
            self,
            steps=ranges.COUNT,
            steps_per_image=ranges.COUNT,
            chunk=ranges.COUNT,
            label_learning_rate=ranges.AMOUNT,
            total_variation=ranges.AMOUNT,
            distance=ranges.AMOUNT,
        )

    @property
    def of_students(self) -> dict[str, Any]:
        """What students of its sets are asked for, where nothing else is chosen.

        No objective sees mixed images, and labels that were learnt are of no use to a teacher.
        """
        return {"cutmix": False} | ({"labels": "stored"} if self.labels == "learnt" else {})

    def sized(self, count: int) -> Refiner:
        """The same for a set of which the objective sees `count` images: all is decided."""
        each = self.steps_per_image
        steps = self.steps if each is None else min(self.steps, each * count)
        objective = self.objective.sized(count)
        return replace(self, objective=objective, steps=steps, steps_per_image=None)

    def passes(self, count: int) -> int:
        """Images that networks see in all steps, forward and backward, about.

        Args:
            count: images of the set that the objective sees.
        """
        sized = self.sized(count)
        return sized.steps * sized.objective.seen(self.batch_size, count)

    def resuming(self, folder: Path, shown: bool) -> Any:
        """The same, with its state kept in `folder`, and a line of progress where `shown`.

        Under an objective of your own nothing is kept.
        """
        return partial(self._refined, folder, shown)

    def __call__(
        self,
        key: Key[Array, ""],
        teacher: Any,
        images: UInt8[np.ndarray, "n height width channels"],
        soft_labels: Float32[np.ndarray, "n tiles classes"],
        pool: Pool,
    ) -> tuple[
        UInt8[np.ndarray, "n height width channels"], Float32[np.ndarray, "n tiles classes"]
    ]:
        """The refined images, and logits: those given, or the learnt ones.

        Args:
            key: of every draw.
            teacher: whose normalisation the networks get.
            images: by class, as many of each.
            soft_labels: logits of each tile.
            pool: real images.

        Raises:
            InputError: arguments that do not fit together, or a loss that is not finite.
        """
        return self._refined(None, False, key, teacher, images, soft_labels, pool)

    def _refined(
        self,
        folder: Path | None,
        shown: bool,
        key: Key[Array, ""],
        teacher: Any,
        images: UInt8[np.ndarray, "n height width channels"],
        soft_labels: Float32[np.ndarray, "n tiles classes"],
        pool: Pool,
    ) -> tuple[
        UInt8[np.ndarray, "n height width channels"], Float32[np.ndarray, "n tiles classes"]
    ]:
        classes = soft_labels.shape[2]
        if len(images) % classes or len(images) != len(soft_labels):
            raise InputError(
                f"{len(images)} images and {len(soft_labels)} rows of labels of {classes} classes: "
                "there must be as many images as rows, and as many of each class"
            )
        tiles = soft_labels.shape[1] if self.partition else 1
        sized = self.sized(len(images) * tiles)
        if sized != self:
            return sized._refined(folder, shown, key, teacher, images, soft_labels, pool)
        if any(pixels % math.isqrt(tiles) for pixels in images.shape[1:3]):
            raise InputError(
                f"images of {images.shape[1]}×{images.shape[2]} pixels have no grid of {tiles} "
                "equal tiles, which a partition needs: choose another image size, or tiles"
            )
        scale: Normalisation = teacher.normalisation
        network = self._network(images, classes, pool)
        keys = jax.random.split(key, 3)
        first = self._start(images, soft_labels, scale)
        known = self.objective.prepare(network, keys[0], pool, scale)
        spectrum = measured(pool, scale, tiles) if self.spectral else None
        given = Given(first, known, scale, keys[2], spectrum)
        run = Program(self, network)
        if folder is not None and provenance.is_plain(self):
            folder = folder / self._name(key, teacher, images, soft_labels, pool)
        else:  # what an objective of the user's computes has no name by which to find it again
            folder = None
        kept = Latest(folder)
        done, state = kept.latest(run.begin(first, keys[1]))
        with kept, Bar("refining", self.steps, unit="step", done=done, shown=shown) as bar:
            while done < self.steps:
                stop = min(done + self.chunk, self.steps)
                rows = drawn(keys[2], pool.labels, self.batch_size, done, stop, self.chunk)
                mirror = keys[2] if self.mirrored and network.view.flip else None
                batch = gathered(pool, rows, mirror, done)
                state, losses = run.chunk(state, given, batch, done, stop)
                loss = float(losses[: stop - done].mean())
                if not np.isfinite(loss):
                    raise InputError(
                        f"the loss of refining is not finite by step {stop}: lower its "
                        f"learning_rate, {self.learning_rate:g}"
                    )
                kept.save(stop, state)
                bar.update(stop - done, loss=loss)
                done = stop
        learnt = jax.device_get(state.learnt)
        pixels = np.asarray(levels(jnp.asarray(learnt.images), scale)).astype(np.uint8)
        logits = soft_labels
        if self.labels == "learnt":
            logits = (learnt.labels * self.temperature).astype(np.float32)
        return pixels, logits

    def _network(self, images: np.ndarray, classes: int, pool: Pool) -> Network:
        size = (int(images.shape[1]), int(images.shape[2]))
        chosen = self.network.complete(Facts(size, len(pool.labels), classes))
        view = replace(self.view, flip=self.view.flip and pool.flip)
        options = tuple(sorted(chosen.options().items()))
        name = chosen.backbone or ""
        return Network(Architecture(name, classes, size, int(images.shape[3]), options), view)

    def _start(self, images: np.ndarray, soft_labels: np.ndarray, scale: Normalisation) -> Learnt:
        """What refinement starts from."""
        count, tiles, classes = soft_labels.shape
        hard = np.eye(classes, dtype=np.float32)[np.arange(count) // (count // classes)]
        hard = np.repeat(hard[:, None], tiles, 1)
        logits = jnp.asarray(soft_labels) / self.temperature
        if self.labels != "soft":
            rest = 0.1 if self.labels == "learnt" else 0.0
            logits = jnp.log(jnp.maximum((1 - rest) * hard + rest / classes, 1e-30))
        return Learnt(scale(images), logits, self.objective.extra())

    def _name(
        self, key: Array, teacher: Any, images: np.ndarray, soft_labels: np.ndarray, pool: Pool
    ) -> str:
        """Names everything that the result depends on."""
        digest = hashlib.sha256()
        about = provenance.describe(self), provenance.versions(), pool.flip
        digest.update(json.dumps(about, sort_keys=True).encode())
        for array in (jax.random.key_data(key), images, soft_labels, pool.labels):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr((teacher.mean, teacher.std)).encode())
        for start in range(0, len(pool.labels), 1024):
            digest.update(np.ascontiguousarray(pool.images[start : start + 1024]).tobytes())
        return digest.hexdigest()[:16]
