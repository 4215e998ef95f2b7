"""Shapley maps by Captum, shap, shapiq and ours: error and time on the same games and weights.

    python -m experiments.benchmarks.attribution_peers --data folder:cifar10

A game is a test image under the committed CIFAR-10 teacher: 16 patches, the label's logit, absent
patches in the mean colour. All 65,536 coalitions are evaluated, so the errors are exact: squared,
relative to the exact map, mean over images and seeds. The peers get the same network in PyTorch and
as many masked images at once. At equal error: the cheapest budget at which a peer is no worse than
ours at its smallest, and what it then takes, divided by ours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import shap
import shapiq
import torch
import tyro
from captum.attr import KernelShap

from experiments.benchmarks.shapley_prior import first_of_classes
from experiments.benchmarks.torch_convnet import network
from infoutil_jax import provenance
from infoutil_jax.data.sources import open_source
from infoutil_jax.method.attribution import patch_shapley
from infoutil_jax.shapley import coalition_design, exact_shapley
from infoutil_jax.training.teacher import load_teachers

HERE = Path(__file__).parents[1]
RESULT = HERE / "results" / "benchmarks" / "attribution_peers.json"
GRID, PLAYERS, AT_ONCE = 4, 16, 256


@dataclass(frozen=True)
class AttributionPeers:
    """Error and time of the estimators."""

    data: str
    """folder:PATH of CIFAR-10."""
    teacher: Path = HERE / "teachers" / "cifar10_convnet3_reduced"
    """Folder of `infoutil teacher`, a ConvNet with batch normalisation."""
    images: int = 8
    """Test images."""
    seeds: int = 3
    """Of every estimator at every budget."""
    ours: tuple[int, ...] = (64, 128, 256)
    """Coalitions."""
    theirs: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    """Coalitions."""
    result: Path = RESULT
    """Where the JSON goes."""

    def run(self) -> None:
        """Measure, print, write."""
        teacher = load_teachers(self.teacher)["converged"]
        source = open_source(self.data)
        # Not the images that the prior was fitted on.
        chosen = first_of_classes(source.test.labels, self.images, skip=20)
        _, pixels = next(source.test.batches(chosen, self.images))
        labels = source.test.labels[chosen]
        images = teacher.normalise(pixels)
        exact = exact_maps(teacher, images, labels)
        rows: dict[str, dict[int, dict[str, float]]] = {"ours": {}}

        for budget in self.ours:
            maps = [ours(teacher, images, labels, budget, seed) for seed in range(self.seeds)]
            rows["ours"][budget] = score(exact, maps)
        for name, peer in peers(teacher, images, labels).items():
            rows[name] = {}
            for budget in self.theirs:
                found = [peer(budget, seed) for seed in range(self.seeds)]
                rows[name][budget] = score(exact, found)
                print(name, budget, rows[name][budget], flush=True)
        print("ours", rows["ours"])
        best = rows["ours"][self.ours[0]]
        ratios = {name: at_equal_error(row, best) for name, row in rows.items() if name != "ours"}
        print(f"at the error of ours with {self.ours[0]} coalitions: {ratios}")
        record = {
            "what": "mean relative squared error of 4x4 Shapley maps; seconds an image",
            "estimators": rows,
            "at_equal_error": {"ours": {"coalitions": self.ours[0], **best}, "times": ratios},
            "arguments": {
                k: v for k, v in asdict(self).items() if k not in ("data", "teacher", "result")
            },
            "teacher": teacher.digest(),
            "source": {"name": source.name, "fingerprint": source.fingerprint()},
            "versions": provenance.versions()
            | {name: version(name) for name in ("captum", "shap", "shapiq", "torch")},
            "hardware": provenance.hardware(),
        }
        self.result.write_text(json.dumps(record, indent=1) + "\n")


def exact_maps(teacher: Any, images: jax.Array, labels: np.ndarray) -> np.ndarray:
    """From every coalition of every image."""
    masks = (np.arange(2**PLAYERS)[:, None] >> np.arange(PLAYERS)) & 1 == 1
    patch = np.ones((images.shape[1] // GRID, images.shape[2] // GRID, 1), np.float32)

    @jax.jit
    def values(image, label, chunk):
        shown = image * jnp.kron(chunk.reshape(-1, GRID, GRID, 1).astype(jnp.float32), patch)
        return teacher.predict(teacher.variables, shown)[:, label]

    def game(image, label):
        return np.concatenate([values(image, label, chunk) for chunk in np.split(masks, 128)])

    games = np.stack([game(*pair) for pair in zip(images, labels, strict=True)], axis=1)
    powers = 1 << np.arange(PLAYERS)
    return np.asarray(exact_shapley(lambda masks: games[np.asarray(masks) @ powers], PLAYERS)).T


def ours(teacher: Any, images: jax.Array, labels: np.ndarray, budget: int, seed: int) -> Any:
    """Maps `[images, players]`, and the seconds an image; compilation is not counted."""
    design = coalition_design(PLAYERS, budget, seed=seed, grid=GRID)

    def run():
        maps = patch_shapley(
            teacher.predict,
            teacher.variables,
            images,
            labels,
            design,
            grid=GRID,
            batch_size=AT_ONCE,
        )
        return np.asarray(maps).reshape(len(images), PLAYERS)

    run()
    started = time.perf_counter()
    return run(), (time.perf_counter() - started) / len(images)


def peers(teacher: Any, images: jax.Array, labels: np.ndarray) -> dict[str, Callable]:
    """`peer(budget, seed) -> maps, seconds an image`."""
    model = network(jax.tree.map(np.asarray, teacher.variables))
    inputs = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2).contiguous()
    side = inputs.shape[-1] // GRID
    patches = torch.arange(PLAYERS).reshape(GRID, GRID)
    patches = patches.repeat_interleave(side, 0).repeat_interleave(side, 1)[None, None]
    there = torch.eye(PLAYERS)[patches[0, 0]]
    got = model(inputs).detach().numpy()
    expected = np.asarray(teacher.predict(teacher.variables, images))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)

    def value(index):
        """The game of an image, for libraries that ask with masks."""

        def values(masks):
            shown = torch.einsum("hwp,np->nhw", there, torch.tensor(np.asarray(masks, np.float32)))
            blocks = (inputs[index] * shown[:, None]).split(AT_ONCE)
            with torch.no_grad():
                return torch.cat([model(block)[:, labels[index]] for block in blocks]).numpy()

        return values

    def captum(index, budget, seed):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002, captum draws from the global generators
        found = KernelShap(model).attribute(
            inputs[index : index + 1],
            target=int(labels[index]),
            feature_mask=patches,
            n_samples=budget,
            perturbations_per_eval=AT_ONCE,
            return_input_shape=False,
        )
        return found[0].detach().numpy()

    def kernel_explainer(index, budget, seed):
        np.random.seed(seed)  # noqa: NPY002, shap draws from the global generator
        explainer = shap.KernelExplainer(value(index), np.zeros((1, PLAYERS)))
        whole = np.ones((1, PLAYERS))
        return explainer.shap_values(whole, nsamples=budget - 2, l1_reg=False, silent=True)[0]

    def approximator(index, budget, seed):
        kernel = shapiq.KernelSHAP(n=PLAYERS, random_state=seed)
        found = kernel.approximate(budget, value(index))
        return np.array([found[(player,)] for player in range(PLAYERS)])

    def timed(peer):
        def run(budget, seed):
            started = time.perf_counter()
            maps = np.stack([peer(index, budget, seed) for index in range(len(inputs))])
            return maps, (time.perf_counter() - started) / len(inputs)

        return run

    named = {"captum": captum, "shap": kernel_explainer, "shapiq": approximator}
    return {name: timed(peer) for name, peer in named.items()}


def score(exact: np.ndarray, found: list[tuple[np.ndarray, float]]) -> dict[str, float]:
    """Error and seconds over seeds."""
    errors = [np.mean(((m - exact) ** 2).sum(1) / (exact**2).sum(1)) for m, _ in found]
    return {"error": float(np.mean(errors)), "seconds": float(np.median([s for _, s in found]))}


def at_equal_error(row: dict[int, dict[str, float]], best: dict[str, float]) -> dict[str, Any]:
    """The first budget that is no worse, and its time in units of ours."""
    for budget, figures in row.items():
        if figures["error"] <= best["error"]:
            return {"coalitions": budget, "times": figures["seconds"] / best["seconds"]}
    budget, figures = list(row.items())[-1]
    # Not reached: then even the largest budget measured is a lower bound.
    return {"coalitions": f"more than {budget}", "times": figures["seconds"] / best["seconds"]}


if __name__ == "__main__":
    tyro.cli(AttributionPeers).run()
