"""Does a prior that is fitted to the teacher at hand err less than one of other teachers?

    python -m experiments.benchmarks.adapted_prior --data folder:PATH/cifar10

Trains teachers of many kinds in short, and plays every coalition of patches of some test images
(4×4 patches, or 3×3 for the largest networks). Each estimator sees as many coalitions: under the
prior of players without a grid, under that of other networks' patches, and under the one that is
fitted to games of training images of this teacher. Errors are mean squared ones relative to the
squares of the exact Shapley values, means over images and draws of coalitions. Coverage is the
share of Shapley values within two of the fitted posterior's standard deviations, 95.4 of 100 if it
were right.

Nothing is fitted to an image that is judged. Teachers and games are kept in --workdir.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from jaxtyping import Float

from infoutil_jax import provenance
from infoutil_jax.app.pipeline import train_teachers
from infoutil_jax.data.augment import channel_statistics
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.method.patch_game import patch_game
from infoutil_jax.shapley import Prior, coalition_design, fitted_prior, pilot_coalitions
from infoutil_jax.shapley.bayesian_quadrature import telling_pairs
from infoutil_jax.shapley.coalitions import Masks, exact
from infoutil_jax.shapley.prior import GRID_PRIOR, PLAYERS, Games, cholesky
from infoutil_jax.training.config import TeacherConfig
from infoutil_jax.training.teacher import Teacher

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "adapted_prior.json"


class Kind(NamedTuple):
    """A teacher: one of ours by name, or a ConvNet of other parts (`_Net`)."""

    norm: str = "group"
    act: str = "relu"
    pool: str = "avg"
    augmented: bool = False
    epochs: int = 12
    backbone: str | None = None
    stage: str = "converged"
    output: str = "logit"
    grid: int = 4


KINDS = {
    "ConvNet-3, batch norm": Kind(backbone="convnet3"),
    "ConvNet-3, batch norm, early": Kind(backbone="convnet3", stage="early"),
    "ConvNet-3, batch norm, log-probability": Kind(backbone="convnet3", output="log_probability"),
    "ResNet-18": Kind(backbone="resnet18", epochs=6, grid=3),
    "Swin-V2-T": Kind(backbone="swin_v2_t", epochs=3, grid=3),
    "group norm": Kind(),
    "group norm, 2 epochs": Kind(epochs=2),
    "group norm, probability": Kind(output="probability"),
    "group norm, max pooling, augmented": Kind(pool="max", augmented=True),
    "layer norm, GELU": Kind(norm="layer", act="gelu"),
    "instance norm": Kind(norm="instance"),
    "no norm, max pooling": Kind(norm="none", pool="max"),
    "no norm, GELU, augmented": Kind(norm="none", act="gelu", augmented=True),
}


@dataclass(frozen=True)
class AdaptedPrior:
    """Errors of estimators by the prior."""

    data: str
    """folder:PATH of CIFAR-10."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Of KINDS."""
    width: int = 32
    """Of all networks that have one; of ResNet-18 half of it."""
    per_class: int = 300
    """Training images of each class."""
    images: int = 8
    """Test images of each teacher whose games are played out."""
    pilot: int = 32
    """Training images that a prior is fitted to."""
    coalitions: tuple[int, ...] = (64, 128, 256)
    """Of each estimate; of 3×3 patches a quarter."""
    draws: int = 4
    """Of the coalitions."""
    workdir: Path = Path("runs/adapted_prior")
    """Where teachers and games are kept."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        source = open_source(self.data, max_per_class=self.per_class)
        self.workdir.mkdir(parents=True, exist_ok=True)
        found = {}
        for name in self.kinds:
            found[name] = self._of_kind(name, source)
            print(name, json.dumps(found[name]["errors"]), found[name]["coverage"], flush=True)
            record = {
                "kinds": {
                    name: {**KINDS[name]._asdict(), **figures} for name, figures in found.items()
                },
                "benchmark": {
                    k: v for k, v in asdict(self).items() if k not in ("data", "workdir", "result")
                },
                "versions": provenance.versions(),
                "hardware": provenance.hardware(),
            }
            self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _of_kind(self, name: str, source: Source) -> dict[str, Any]:
        kind = KINDS[name]
        grid, players = (kind.grid, kind.grid), kind.grid**2
        masks, operator = exact(players)
        pilot = pilot_coalitions(players, 256)
        accuracy, games, differences = self._games(name, kind, source, masks, pilot)
        prior = fitted_prior(differences, pilot, grid)
        place = np.empty(2**players, int)
        place[masks @ (1 << np.arange(players))] = np.arange(2**players)

        def worth(coalitions: np.ndarray) -> np.ndarray:
            return games[:, place[coalitions @ (1 << np.arange(players))]]

        right = games @ operator.T
        # Exact games of nine patches have 512 coalitions in all.
        budgets = [b if players == 16 else b // 4 for b in self.coalitions]
        priors: dict[str, tuple[Any, Prior | None]] = {
            "no grid": (None, PLAYERS),
            "other networks": (grid, GRID_PRIOR),
            "fitted": (grid, prior),
        }
        errors = {
            label: [
                float(np.mean([_error(worth, right, b, seed, *how) for seed in range(self.draws)]))
                for b in budgets
            ]
            for label, how in priors.items()
        }
        within = [
            float(
                np.mean(
                    [_covered(worth, right, b, seed, grid, prior) for seed in range(self.draws)]
                )
            )
            for b in budgets
        ]
        return {
            "accuracy": accuracy,
            "budgets": budgets,
            "errors": errors,
            "coverage": within,
            "prior": provenance.describe(prior),
        }

    def _games(
        self, name: str, kind: Kind, source: Source, masks: np.ndarray, pilot: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Accuracy, worth of all coalitions of test images, differences of training images."""
        path = self.workdir / f"{name.replace(' ', '_')}.npz"
        if not path.exists():
            teacher, accuracy = self.teacher(kind, source)
            play = partial(_play, teacher, kind)
            shown = np.linspace(0, len(source.test) - 1, self.images).astype(int)
            fitted = np.linspace(0, len(source.train) - 1, self.pilot).astype(int)
            games = play(source.test.take(shown).arrays(), masks)
            images = source.train.take(fitted).arrays()
            differences = play(images, pilot) - play(images, ~pilot)
            np.savez(path, games=games, differences=differences, accuracy=accuracy)
        with np.load(path) as kept:
            games, differences = kept["games"], kept["differences"]
            return float(kept["accuracy"]), games.astype(np.float64), differences

    def teacher(self, kind: Kind, source: Source) -> tuple[Teacher, float]:
        """Trained, and its accuracy in percent."""
        if kind.backbone is None:
            teacher = _trained(kind, self.width, source)
        else:
            width = {"convnet3": self.width, "resnet18": self.width // 2}.get(kind.backbone)
            config = TeacherConfig(
                backbone=kind.backbone, width=width, epochs=kind.epochs, early_epochs=3
            )
            path = self.workdir / kind.backbone
            teacher = train_teachers(source, path, config, progress=False)[kind.stage]
        images, labels = source.test.arrays()
        logits = [
            teacher.predict(teacher.variables, teacher.normalise(i))
            for i in np.array_split(images, 20)
        ]
        accuracy = float(np.mean(np.concatenate(logits).argmax(1) == labels))
        return teacher, 100 * accuracy


def _error(
    worth: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    budget: int,
    seed: int,
    grid: Any,
    prior: Prior | None,
) -> float:
    design = coalition_design(right.shape[1], budget, seed=seed, grid=grid, prior=prior)
    found = worth(np.asarray(design.masks)) @ np.asarray(design.operator, np.float64).T
    return float(np.mean(np.square(found - right).sum(1) / np.square(right).sum(1)))


class Innovations(NamedTuple):
    """What each pair adds to the pairs before it.

    `whitener @ u` are uncorrelated and of the game's variance; a prefix of it needs that prefix of
    u only, and `loadings` times that prefix is the posterior mean of phi.
    """

    masks: Masks
    """One of each pair, the full coalition first."""
    whitener: Float[np.ndarray, "pairs pairs"]
    loadings: Float[np.ndarray, "d pairs"]


def innovations(game: Games, masks: Masks) -> Innovations:
    """Of these coalitions, one after the other."""
    factor = cholesky(game.between_pairs(masks))
    whitener = np.linalg.solve(factor, np.eye(len(masks)))
    loadings = np.linalg.solve(factor, (game.cross(masks) - game.cross(~masks)).T).T
    return Innovations(masks, whitener, loadings)


def _covered(
    worth: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    budget: int,
    seed: int,
    grid: tuple[int, int],
    prior: Prior,
) -> float:
    """Percent of Shapley values within two standard deviations, as `staged_shapley` knows them."""
    game = Games(right.shape[1], grid, prior)
    others = telling_pairs(np.random.default_rng(seed), game, budget // 2 - 1)
    known = innovations(game, np.concatenate([np.ones((1, right.shape[1]), bool), others]))
    white = (worth(known.masks) - worth(~known.masks)) @ known.whitener.T
    scale = np.square(white).mean(1, keepdims=True)
    left = np.diag(game.shapley() - known.loadings @ known.loadings.T)
    off = white @ known.loadings.T - right
    return float(100 * np.mean(np.square(off) <= 4 * scale * np.maximum(left, 0)))


def _play(
    teacher: Teacher, kind: Kind, data: tuple[np.ndarray, np.ndarray], masks: np.ndarray
) -> np.ndarray:
    """What each coalition of each image is worth, `[images, coalitions]`."""
    rows = []
    for image, label in zip(*data, strict=True):
        game = patch_game(
            teacher.predict,
            teacher.variables,
            teacher.normalise(image[None]),
            jnp.asarray(label[None]),
            grid=kind.grid,
            output=kind.output,
            batch_size=512,
        )
        worth = [
            np.asarray(game(part))[:, 0] for part in np.array_split(masks, -(-len(masks) // 8192))
        ]
        rows.append(np.concatenate(worth))
    return np.stack(rows).astype(np.float32)


class _Net(nnx.Module):
    """Three convolutions, normalised and pooled, and a linear layer."""

    def __init__(self, kind: Kind, width: int, rngs: nnx.Rngs):
        norms: dict[str, Callable[[], Any]] = {
            "group": lambda: nnx.GroupNorm(width, num_groups=8, rngs=rngs),
            "instance": lambda: nnx.GroupNorm(width, num_groups=width, rngs=rngs),
            "layer": lambda: nnx.LayerNorm(width, rngs=rngs),
            "none": lambda: None,
        }
        self.kind = kind
        sizes = zip((3, width, width), (width, width, width), strict=True)
        self.convolutions = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in sizes])
        self.norms = nnx.List([norms[kind.norm]() for _ in range(3)])
        self.head = nnx.Linear(16 * width, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        activate = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}[self.kind.act]
        pool = {"avg": nnx.avg_pool, "max": nnx.max_pool}[self.kind.pool]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            images = convolution(images)
            images = pool(activate(images if norm is None else norm(images)), (2, 2), (2, 2))
        logits: jax.Array = self.head(images.reshape(len(images), -1))
        return logits


def _trained(kind: Kind, width: int, source: Source) -> Teacher:
    """A ConvNet of other parts than ours, by Adam, mirrored and shifted images or none."""
    graph, params = nnx.split(_Net(kind, width, nnx.Rngs(0)))
    images, labels = source.train.arrays()

    def predict(variables: Any, batch: jax.Array) -> jax.Array:
        logits: jax.Array = nnx.merge(graph, variables)(batch)
        return logits

    mean, std = channel_statistics(images)
    teacher = Teacher(jax.jit(predict), params, mean=mean, std=std)
    optimiser = optax.adam(1e-3)

    @jax.jit
    def step(params: Any, state: Any, batch: jax.Array, labels: jax.Array, key: Any) -> Any:
        flip, shift = jax.random.split(key)
        if kind.augmented:
            mirrored = jax.random.bernoulli(flip, shape=(len(batch), 1, 1, 1))
            batch = jnp.where(mirrored, batch[:, :, ::-1], batch)
            batch = jnp.roll(batch, jax.random.randint(shift, (2,), -3, 4), (1, 2))

        def loss(params: Any) -> jax.Array:
            losses = optax.softmax_cross_entropy_with_integer_labels
            return losses(predict(params, batch), labels).mean()

        updates, state = optimiser.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state, rng, size = optimiser.init(params), np.random.default_rng(0), 64
    for epoch in range(kind.epochs):
        order = rng.permutation(len(labels))
        for number in range(len(labels) // size):
            rows = order[number * size : (number + 1) * size]
            key = jax.random.fold_in(jax.random.key(epoch), number)
            params, state = step(params, state, teacher.normalise(images[rows]), labels[rows], key)
    return replace(teacher, variables=params)


if __name__ == "__main__":
    tyro.cli(AdaptedPrior).run()
