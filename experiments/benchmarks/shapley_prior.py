"""How the prior on patch games was fitted: the largest marginal likelihood of real games.

    python -m experiments.benchmarks.shapley_prior --data folder:cifar10 folder:imagenette128

A game is a test image under a teacher: 4×4 patches, the label's logit, absent patches in the mean
colour. Of every game the differences of some hundred pairs of coalitions are looked at, all sizes
of coalitions alike; its scale is its own. Every other image fits, the others are held out. Larger
is better; a difference of 0.1 is one of e^0.1 in the density of each value.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro
from scipy.optimize import minimize

from infoutil_jax import provenance
from infoutil_jax.data.sources import open_source
from infoutil_jax.method.patch_game import patch_game
from infoutil_jax.shapley import coalition_design
from infoutil_jax.shapley.fitted_prior import log_likelihood
from infoutil_jax.shapley.prior import GRID_PRIOR, PLAYERS, Prior
from infoutil_jax.training.teacher import load_teachers

HERE = Path(__file__).parents[1]
RESULT = HERE / "results" / "benchmarks" / "shapley_prior.json"
TEACHERS = tuple(
    HERE / "teachers" / name for name in ("cifar10_convnet3_reduced", "imagenette_convnet4_reduced")
)
GRID = 4, 4
PLAYERS_OF_GRID = 16


@dataclass(frozen=True)
class ShapleyPrior:
    """The likelihood of games under priors, and the best prior."""

    data: tuple[str, ...]
    """folder:PATH of each teacher's dataset."""
    teachers: tuple[Path, ...] = TEACHERS
    """Folders of `infoutil teacher`."""
    images: int = 40
    """Test images of each teacher, the first of every class in turn."""
    coalitions: int = 402
    """Of every game."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, fit, print, write."""
        masks = coalition_design(PLAYERS_OF_GRID, self.coalitions, strategy="leverage").masks
        pairs = np.concatenate([masks[1:2], masks[2::2]])
        games = dict(
            self._games(teacher, data, pairs)
            for teacher, data in zip(self.teachers, self.data, strict=True)
        )
        fit = [u[::2] for u in games.values()]

        def cost(x: np.ndarray) -> float:
            try:
                return -float(np.mean([log_likelihood(prior_of(x), pairs, u, GRID) for u in fit]))
            except np.linalg.LinAlgError:
                return np.inf

        start = np.array([0.0, *np.log([100.0, 0.5, 0.05])])
        simplex = np.vstack([start, start + 0.7 * np.eye(4)])
        best = minimize(
            cost,
            start,
            method="Nelder-Mead",
            options={"initial_simplex": simplex, "maxfev": 200, "xatol": 0.03, "fatol": 1e-4},
        )
        priors = {"players": PLAYERS, "patches": GRID_PRIOR, "largest": prior_of(best.x)}
        held_out = {
            name: {game: log_likelihood(prior, pairs, u[1::2], GRID) for game, u in games.items()}
            for name, prior in priors.items()
        }
        for name, prior in priors.items():
            print(name, prior, held_out[name])
        record = {
            "what": "log marginal likelihood of a value of games that were not fitted",
            "priors": {name: asdict(prior) for name, prior in priors.items()},
            "held_out": held_out,
            "arguments": {"images": self.images, "coalitions": self.coalitions},
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _games(self, folder: Path, data: str, pairs: np.ndarray) -> tuple[str, np.ndarray]:
        """A name, and `[images, pairs]`: v(S) - v(complement of S)."""
        teacher = load_teachers(folder)["converged"]
        config = json.loads((folder / "config.json").read_text())
        source = open_source(data, image_size=tuple(config["image_size"]))
        chosen = first_of_classes(source.test.labels, self.images)
        rows = []
        for ids, pixels in source.test.batches(chosen, 8):
            images, labels = teacher.normalise(pixels), source.test.labels[ids]
            game = patch_game(teacher.predict, teacher.variables, images, labels, grid=GRID)
            rows.append([np.asarray(game(half)).T for half in (pairs, ~pairs)])
        there, gone = (np.concatenate(part).astype(np.float64) for part in zip(*rows, strict=True))
        return f"{data.split('/')[-1]}, {config['backbone']}", there - gone


def first_of_classes(labels: np.ndarray, count: int, skip: int = 0) -> np.ndarray:
    """Indices of `count` images, the first of every class in turn after `skip` of each."""
    classes = np.unique(labels)
    each = -(-count // len(classes))
    columns = [np.flatnonzero(labels == c)[skip : skip + each] for c in classes]
    return np.stack(columns, axis=1).ravel()[:count]


def prior_of(x: np.ndarray) -> Prior:
    """From four numbers without bounds."""
    linear, square, near = map(float, np.exp(x[1:]))
    return Prior(float(1 / (1 + np.exp(-x[0]))), linear, square, near)


if __name__ == "__main__":
    tyro.cli(ShapleyPrior).run()
