r"""Error of the Shapley estimators on real 4×4 patch games, ours beside shap's KernelExplainer.

A game is one test image under a trained network: players are the 16 patches, a coalition's value
is the label's logit with the other patches at zero in normalised space (the mean colour). All
65,536 coalitions are evaluated once, so the exact values are known, and the error of an estimate is
|estimate - exact|² / |exact|², averaged over games and seeds.

    python -m experiments.benchmarks.shapley_error --skip 50 --games 10 \
        --teacher experiments/teachers/cifar10_convnet3_reduced --images cifar10/test
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import shap
import tyro
from jaxtyping import Array, Bool, Float, Int, UInt8
from PIL import Image
from tqdm.auto import tqdm

from infoutil_jax import provenance
from infoutil_jax.errors import InputError
from infoutil_jax.shapley import coalition_design, exact_shapley, shapley_values
from infoutil_jax.training.teacher import Teacher, load_teacher

GRID = 4
PLAYERS = GRID * GRID
STRATEGIES = ("gaussian", "leverage", "kernel")
SHAP = f"shap {version('shap')}"
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Arguments:
    """What is measured.

    Attributes:
        teacher: folder of `infoutil teacher`, or a ConvNet checkpoint (.npz) with PyTorch names
            and layouts and ImageNet's mean and standard deviation.
        images: folder `<class>/<image>.jpg` of square RGB images.
        output: the JSON that is written.
        cache: where evaluated games are kept between runs (.npz); none by default.
        games: images, spread evenly over the classes.
        skip: images of every class that are passed over: those that the prior was fitted on.
        size: side to which images are resized; by default as they are.
        seeds: repetitions of every estimator at every budget.
        budgets: evaluated coalitions, the empty and the full one included.
    """

    teacher: Path
    images: Path
    output: Path = Path("experiments/results/benchmarks/shapley_error_cifar10.json")
    cache: Path | None = None
    games: int = 12
    skip: int = 0
    size: int | None = None
    seeds: int = 5
    budgets: tuple[int, ...] = (32, 64, 128, 256, 512)


def all_masks(players: int) -> Bool[np.ndarray, "coalitions players"]:
    """Row `k` holds player `i` where bit `i` of `k` is set."""
    return (np.arange(2**players)[:, None] >> np.arange(players)) & 1 == 1


def logits(
    tensors: dict[str, Array], images: Float[Array, "batch height width 3"]
) -> Float[Array, "batch classes"]:
    """A ConvNet in evaluation mode from PyTorch tensors."""
    x = images
    layer = 0
    while f"layers.conv.{layer}.weight" in tensors:
        conv, norm = f"layers.conv.{layer}", f"layers.norm.{layer}"
        x = jax.lax.conv_general_dilated(
            x, tensors[f"{conv}.weight"], (1, 1), "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC")
        )
        scale = tensors[f"{norm}.weight"] / jnp.sqrt(tensors[f"{norm}.running_var"] + 1e-5)
        shift = tensors[f"{conv}.bias"] - tensors[f"{norm}.running_mean"]
        x = jax.nn.relu((x + shift) * scale + tensors[f"{norm}.bias"])
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
        layer += 1
    features = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    return features @ tensors["classifier.weight"].T + tensors["classifier.bias"]


def load_images(
    folder: Path, count: int, skip: int, size: int | None
) -> tuple[UInt8[np.ndarray, "n height width 3"], Int[np.ndarray, " n"], list[str]]:
    """The first images of every class after `skip`, in turn, with labels and names."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if not classes:
        raise InputError(f"{folder} holds no class folders; expected <class>/<image>.jpg")
    files = [sorted(path.glob("*.jpg")) for path in classes]
    chosen = [
        (files[g % len(classes)][skip + g // len(classes)], g % len(classes)) for g in range(count)
    ]
    opened = [Image.open(path).convert("RGB") for path, _ in chosen]
    resized = [image.resize((size, size), Image.Resampling.BILINEAR) for image in opened if size]
    pixels = np.stack([np.asarray(image) for image in resized or opened])
    names = [f"{path.parent.name}/{path.name}" for path, _ in chosen]
    return pixels, np.array([c for _, c in chosen]), names


def load_model(path: Path) -> Teacher:
    """A teacher of ours, or a checkpoint in PyTorch's layout."""
    if path.is_dir():
        return load_teacher(path)
    with np.load(path) as file:
        tensors = {
            key: jnp.asarray(file[key])
            for key in file
            if key.startswith(("layers", "classifier")) and file[key].ndim
        }
    return Teacher(logits, tensors, mean=MEAN, std=STD, name=path.name)


def evaluate_games(arguments: Arguments) -> tuple[Float[np.ndarray, "games coalitions"], list[str]]:
    """The label's logit for every coalition of every game."""
    pixels, labels, names = load_images(
        arguments.images, arguments.games, arguments.skip, arguments.size
    )
    model = load_model(arguments.teacher)
    mean, std = np.asarray(model.mean, np.float32), np.asarray(model.std, np.float32)
    images = (pixels / np.float32(255) - mean) / std
    masks = all_masks(PLAYERS).reshape(-1, 512, GRID, GRID)
    patch = np.ones((images.shape[1] // GRID, images.shape[2] // GRID, 1), np.float32)

    @jax.jit
    def values(image: Array, label: Array, chunk: Array) -> Array:
        return model.predict(model.variables, image * jnp.kron(chunk[..., None], patch))[:, label]

    games = np.stack(
        [
            np.concatenate([values(image, label, chunk.astype(np.float32)) for chunk in masks])
            for image, label in tqdm(zip(images, labels, strict=True), "games", len(images))
        ]
    )
    return games, names


def shap_library(
    games: Float[np.ndarray, "games coalitions"], budget: int, seed: int
) -> Float[np.ndarray, "players games"]:
    """The estimate of shap with as many evaluations; its nsamples leaves out empty and full."""
    np.random.seed(seed)  # noqa: NPY002, shap draws from the global generator
    explainer = shap.KernelExplainer(
        lambda x: games.T[(x > 0.5) @ (1 << np.arange(PLAYERS))], np.zeros((1, PLAYERS))
    )
    present = np.ones((1, PLAYERS))
    return explainer.shap_values(present, nsamples=budget - 2, l1_reg=False, silent=True)[0]


def measure(
    games: Float[np.ndarray, "games coalitions"], budgets: Sequence[int], seeds: int
) -> dict[str, dict[int, list[float]]]:
    """For each estimator and budget, the relative squared error of each seed, mean over games."""

    def value_fn(masks: Array) -> np.ndarray:
        return games.T[np.asarray(masks) @ (1 << np.arange(PLAYERS))]

    exact = np.asarray(exact_shapley(value_fn, PLAYERS))

    def error(phi: Float[Array | np.ndarray, "players games"]) -> float:
        return float(np.mean(np.sum((phi - exact) ** 2, 0) / np.sum(exact**2, 0)))

    def ours(strategy: str, budget: int, seed: int) -> float:
        design = coalition_design(PLAYERS, budget, strategy=strategy, seed=seed, grid=GRID)
        return error(shapley_values(value_fn, design))

    cells = [(budget, seed) for budget in budgets for seed in range(seeds)]
    errors: dict[str, dict[int, list[float]]] = {
        name: {budget: [] for budget in budgets} for name in (*STRATEGIES, SHAP)
    }
    for budget, seed in tqdm(cells, "estimates"):
        for strategy in STRATEGIES:
            errors[strategy][budget].append(ours(strategy, budget, seed))
        errors[SHAP][budget].append(error(shap_library(games, budget, seed)))
    return errors


def table(errors: dict[str, dict[int, list[float]]]) -> str:
    """Means over seeds, then shap's mean divided by ours."""
    budgets = list(errors[SHAP])
    lines = ["".join(f"{word:>14}" for word in ("coalitions", *map(str, budgets)))]
    mean = {name: [float(np.mean(row[b])) for b in budgets] for name, row in errors.items()}
    for name, row in mean.items():
        lines.append(f"{name:>14}" + "".join(f"{value:14.4f}" for value in row))
    for name in STRATEGIES:
        ratios = [theirs / ours for theirs, ours in zip(mean[SHAP], mean[name], strict=True)]
        lines.append(f"{'shap/' + name:>14}" + "".join(f"{value:14.1f}" for value in ratios))
    return "\n".join(lines)


def main(arguments: Arguments) -> None:
    """Evaluates the games, measures, prints the table and writes the JSON."""
    if arguments.cache and arguments.cache.exists():
        with np.load(arguments.cache) as file:
            games, names = file["games"], file["names"].tolist()
    else:
        games, names = evaluate_games(arguments)
        if arguments.cache:
            np.savez(arguments.cache, games=games, names=np.array(names))
    errors = measure(games, arguments.budgets, arguments.seeds)
    print(table(errors))
    record = {
        "what": "relative squared error of Shapley estimates, mean over games, one a seed",
        "arguments": {
            key: "/".join(value.parts[-2:]) if isinstance(value, Path) else value
            for key, value in asdict(arguments).items()
            if key not in ("cache", "output")
        },
        "seeds": list(range(arguments.seeds)),
        "images": names,
        "versions": provenance.versions() | {"shap": version("shap")},
        "hardware": provenance.hardware(),
        "errors": errors,
        "mean": {
            name: {budget: float(np.mean(values)) for budget, values in row.items()}
            for name, row in errors.items()
        },
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
