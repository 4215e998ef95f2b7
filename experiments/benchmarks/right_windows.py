"""How many coalitions does it take to find the right window for 98 of 100 images, now and before?

    python -m experiments.benchmarks.right_windows --data DIR    # has cifar10 and imagenette128

Today each image is asked what tells its own windows apart, under a prior that is fitted to its
teacher. Before, all were asked in one order, chosen for all patches under the prior of other
networks, and looked at after every 16. Both for many confidences; the fewest coalitions of those
that find so many count. The right window is the best of maps from 2,048 coalitions of another draw.

No design saw a test image. Teachers are ours and those of many kinds of `adapted_prior`; which
figures the fitted prior and its constants were chosen on stands in the result (`chosen_on`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks.adapted_prior import KINDS, AdaptedPrior, innovations
from experiments.benchmarks.crop_agreement import compare, worth
from experiments.benchmarks.shapley_prior import first_of_classes
from infoutil_jax import ShapleyConfig, ShapleyMaps, provenance
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.method.attribution import patch_shapley
from infoutil_jax.method.patch_game import PatchGame, patch_game
from infoutil_jax.shapley import coalition_design, staged_design, staged_shapley
from infoutil_jax.shapley.bayesian_quadrature import telling_pairs
from infoutil_jax.shapley.prior import GRID_PRIOR, Games
from infoutil_jax.training.teacher import Teacher, load_teachers

HERE = Path(__file__).parents[1]
RESULT = HERE / "results" / "benchmarks" / "right_windows.json"
GRID, PLAYERS, REFERENCE = 4, 16, 2048
OURS = "cifar10_convnet3_reduced", "imagenette_convnet4_reduced"
CHOSEN_ON = (
    *("cifar10_convnet3_reduced", "group norm", "instance norm", "no norm, max pooling"),
    "layer norm, GELU",
)


@dataclass(frozen=True)
class RightWindows:
    """Coalitions an image, before and now."""

    data: Path
    """Folder of the folders cifar10 and imagenette128."""
    teachers: tuple[str, ...] = (*OURS, *(k for k, v in KINDS.items() if v.backbone is None))
    """Folders in experiments/teachers, and KINDS of `adapted_prior`."""
    images: int = 200
    """Test images of each teacher, of every class as many."""
    skip: int = 20
    """Images of every class passed over: those that the prior of other networks was fitted on."""
    confidences: tuple[float, ...] = (0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
    """Probabilities at which games are done."""
    deviations: tuple[float, ...] = (1.0, 1.4, 1.7, 2.0, 2.3, 2.6, 3.0, 3.5)
    """That the best window was ahead, before."""
    most: int = 256
    """Coalitions at most."""
    share: float = 0.98
    """Of images whose window is right."""
    workdir: Path = Path("runs/adapted_prior")
    """Where teachers of other kinds are kept."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        found: dict[str, Any] = {}
        for name in self.teachers:
            found[name] = self._of(name)
            print(name, found[name]["fewest"], flush=True)
            about = {
                k: v
                for k, v in asdict(self).items()
                if k not in ("data", "teachers", "workdir", "result")
            }
            record = {
                "what": "share of images whose best window is that of 2,048 coalitions",
                "teachers": found,
                "chosen_on": CHOSEN_ON,
                "benchmark": about,
                "versions": provenance.versions(),
                "hardware": provenance.hardware(),
            }
            self.result.write_text(json.dumps(record, indent=1) + "\n")

    def _of(self, name: str) -> dict[str, Any]:
        teacher, source, output = self._teacher(name)
        images, labels = self._shown(source.test, teacher, self.images, self.skip)
        maps = ShapleyMaps(ShapleyConfig(grid=GRID, budget=self.most, output=output))
        of_training = self._shown(source.train, teacher, maps.pilot, 0)
        fitted = maps.fitted(teacher.predict, teacher.variables, *of_training)

        reference = coalition_design(PLAYERS, REFERENCE, seed=1, grid=GRID)
        right = np.concatenate(
            [
                worth(
                    patch_shapley(
                        *(teacher.predict, teacher.variables, images[some], labels[some]),
                        reference,
                        grid=GRID,
                        output=output,
                    )
                )
                for some in np.array_split(np.arange(self.images), 4)
            ]
        )

        def game() -> PatchGame:
            return patch_game(
                teacher.predict, teacher.variables, images, labels, grid=GRID, output=output
            )

        designs = {
            "now": fitted.config.staged_design(fitted.prior),
            "now, prior of other networks": staged_design(GRID, self.most),
        }
        rows = {"before": self._before(game(), right)}
        for label, design in designs.items():
            rows[label] = []
            for confidence in self.confidences:
                phi, used = staged_shapley(game(), design, confidence=confidence, at_once=64)
                row = {"confidence": confidence, "coalitions": float(used.mean())}
                found = worth(phi.reshape(-1, GRID, GRID))
                rows[label].append(row | compare(right, np.asarray(found)))
        fewest = {
            label: min(
                (row["coalitions"] for row in of if row["agreement"] >= self.share), default=None
            )
            for label, of in rows.items()
        }
        return {"fewest": fewest, "rows": rows, "teacher": teacher.digest()}

    def _before(self, games: PatchGame, right: np.ndarray) -> list[dict[str, float]]:
        """One order for all images, in stages of 16."""
        game = Games(PLAYERS, (GRID, GRID), GRID_PRIOR)
        others = telling_pairs(np.random.default_rng(0), game, self.most // 2 - 1)
        masks = np.concatenate([np.ones((1, PLAYERS), bool), others])
        path = innovations(game, masks)
        differences = np.asarray(games(masks) - games(~masks), np.float64).T
        white = differences @ path.whitener.T
        windows = np.asarray(staged_design(GRID, 2).windows)
        stages = []
        for end in range(8, len(masks) + 1, 8):
            known = path.loadings[:, :end]
            phi = white[:, :end] @ known.T
            phi += (differences[:, :1] - phi.sum(1, keepdims=True)) / PLAYERS
            left = windows @ (game.shapley() - known @ known.T) @ windows.T
            spread = np.sqrt(np.maximum(np.add.outer(*2 * [np.diag(left)]) - 2 * left, 0))
            pooled, scale = phi @ windows.T, np.sqrt(np.square(white[:, :end]).mean(1))
            best = pooled.argmax(1)
            with np.errstate(invalid="ignore"):
                ahead = (pooled.max(1) - pooled.T).T / (scale[:, None] * spread[best])
            stages.append((phi, np.nanmin(ahead, axis=1)))  # 0/0 of the best window and itself
        maps, ahead = (np.stack(some) for some in zip(*stages, strict=True))
        ahead[-1] = np.inf
        rows = []
        for deviations in self.deviations:
            at = (ahead > deviations).argmax(0)
            found = maps[at, np.arange(len(at))].reshape(-1, GRID, GRID)
            row = {"deviations": deviations, "coalitions": float(16 * (at + 1).mean())}
            rows.append(row | compare(right, np.asarray(worth(found))))
        return rows

    def _teacher(self, name: str) -> tuple[Teacher, Source, str]:
        """It, images of its kind, and what a coalition is worth."""
        if name in KINDS:
            source = open_source(f"folder:{self.data / 'cifar10'}", max_per_class=300)
            others = AdaptedPrior(data="", workdir=self.workdir)
            return others.teacher(KINDS[name], source)[0], source, KINDS[name].output
        folder = HERE / "teachers" / name
        config = json.loads((folder / "config.json").read_text())
        data = "cifar10" if name.startswith("cifar10") else "imagenette128"
        source = open_source(f"folder:{self.data / data}", image_size=tuple(config["image_size"]))
        return load_teachers(folder)["converged"], source, "logit"

    def _shown(self, part: Any, teacher: Teacher, count: int, skip: int) -> tuple[Any, Any]:
        chosen = first_of_classes(part.labels, count, skip)
        _, pixels = next(part.batches(chosen, count))
        return teacher.normalise(pixels), jnp.asarray(part.labels[chosen])


if __name__ == "__main__":
    tyro.cli(RightWindows).run()
