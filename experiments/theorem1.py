"""Theorem 1 measured: utility itself beside the cheap scores that stand in for it.

    python -m experiments.theorem1 --data digits
    python -m experiments.theorem1 --data folder:PATH/cifar10 --max-per-class 1000 --epochs 40

At three stages of a teacher (untrained, early, converged), for SGD, SGD with momentum and Adam, on
several mini-batches of training images: the utility of every example (Definition 3), how the
gradient norm and cheaper scores rank examples beside it, and how much of the bound it fills. The
other examples, whose loss the definition asks for, are the mini-batch itself or other training
images. Writes `experiments/results/theorem1/<dataset>.json`, and `table.md` from all of them.

All optimisers are compared at the same parameters: their states are warmed up on mini-batches of
gradients at the stage's parameters, which are held fixed. The loss is the teacher's in inference
mode, for in training mode batch normalisation couples the examples, and none has a gradient of its
own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from scipy import stats
from sklearn.metrics import roc_auc_score

from infoutil_jax import models, provenance
from infoutil_jax.app.pipeline import train_teachers
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.errors import InputError
from infoutil_jax.gradients import changes_of_gradients, example_gradients
from infoutil_jax.method import scores
from infoutil_jax.training.config import TeacherConfig
from infoutil_jax.training.evaluation import evaluate
from infoutil_jax.training.teacher import Teacher

RESULTS = Path(__file__).parent / "results" / "theorem1"
# The mean's momentum is left out: like the sum's it is plain SGD's.
CASES = (("sgd", "sum"), ("momentum", "sum"), ("adam", "sum"), ("sgd", "mean"), ("adam", "mean"))
LABELS = {
    "gradient_norm": "gradient norm",
    "classifier_norm": "classifier's",
    "el2n": "EL2N",
    "cross_entropy": "loss",
    "centred_norm": "centred norm",
}


@dataclass(frozen=True)
class Experiment:
    """Utility, its bound and the scores, on one source."""

    data: str
    """digits, folder:PATH or tfds:NAME."""
    max_per_class: int | None = None
    """Training images a class; all by default."""
    width: int | None = None
    """Channels of the teacher's layers; by default 128 with an accelerator, 64 without."""
    epochs: int | None = None
    """Of the converged teacher; by default 10 to 100, from the source's size."""
    early_epochs: int = 10
    """Of the early teacher."""
    batches: int = 6
    """Mini-batches measured."""
    batch_size: int = 128
    """Examples of each."""
    probes: int = 512
    """Other training images."""
    warmup: int = 20
    """Mini-batches that the optimiser's state has seen."""
    sgd_rate: float = 0.1
    """Rate of SGD, with momentum 0.9 and without; utility is proportional to it."""
    adam_rate: float = 0.001
    """Rate of Adam; likewise."""
    top: float = 0.1
    """Share of a mini-batch that counts as its most useful."""
    workdir: Path = Path("runs/theorem1")
    """The teachers, one folder a source; one that is there is used."""
    results: Path = RESULTS
    """Where the JSON goes."""
    seed: int = 0
    """Of teacher, mini-batches and probes."""

    def run(self) -> None:
        """Measure, write the JSON and the table."""
        source = open_source(self.data, max_per_class=self.max_per_class)
        needed = self.batches * self.batch_size + self.probes
        if len(source.train) < needed:
            raise InputError(
                f"{source.spec} has {len(source.train)} training images; {self.batches} batches "
                f"of {self.batch_size} and {self.probes} probes need {needed}"
            )
        chosen = TeacherConfig(width=self.width, epochs=self.epochs)
        options = replace(chosen, early_epochs=self.early_epochs).resolve(source)
        teachers = train_teachers(source, self.workdir / source.name, options, seed=self.seed)
        started = time.perf_counter()
        stages = [untrained(source, teachers["early"], options, self.seed), *teachers.values()]
        figures = [figure for teacher in stages for figure in self._measure(source, teacher)]
        arguments = {k: v for k, v in asdict(self).items() if k not in ("workdir", "results")}
        if self.data.startswith("folder:"):
            arguments["data"] = f"folder:{source.name}"  # wherever it lies on this machine
        record = {
            "what": "utility (Definition 3) of training examples beside cheap scores of them",
            "arguments": arguments,
            "reduced": self.max_per_class and f"{self.max_per_class} images a class",
            "source": {
                "name": source.name,
                "fingerprint": source.fingerprint(),
                "train_images": len(source.train),
                "skipped": list(source.skipped),
            },
            "teacher_options": asdict(options),
            "teachers": {
                t.stage: {"name": t.name, "digest": t.digest(), "accuracy": t.accuracy}
                for t in stages
            },
            "figures": figures,
            "seconds": round(time.perf_counter() - started, 1),
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }
        self.results.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1, allow_nan=False) + "\n"
        (self.results / f"{source.name}.json").write_text(text)
        (self.results / "table.md").write_text(table(self.results))
        print(table(self.results))

    def _measure(self, source: Source, teacher: Teacher) -> Iterator[dict[str, Any]]:
        """Every optimiser and set of probes at one stage."""
        images, labels = source.train.arrays()
        images = np.asarray(teacher.normalise(images))
        order = np.random.default_rng(self.seed).permutation(len(labels))
        end = self.probes + self.batches * self.batch_size
        parts = [order[: self.probes], *np.split(order[self.probes : end], self.batches)]
        rest = {k: v for k, v in teacher.variables.items() if k != "params"}
        params = teacher.variables["params"]

        def loss(params, example):
            image, label = example
            logits = teacher.predict({**rest, "params": params}, image[None])[0]
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, label)

        others, *own = [
            example_gradients(loss, params, (images[rows], labels[rows]), microbatch_size=32)
            for rows in parts
        ]
        scores = [
            _scores(teacher, images[rows], labels[rows], gradients)
            for rows, gradients in zip(parts[1:], own, strict=True)
        ]
        warm = self._warm_gradients(loss, params, images, labels)
        for (name, reduction), kind in product(CASES, ("batch", "others")):
            rate = self.adam_rate if name == "adam" else self.sgd_rate
            optimiser = _optimiser(name, rate)
            scale = self.batch_size if reduction == "sum" else 1
            state = _warmed(optimiser, params, warm, scale)
            probes = own if kind == "batch" else [others] * len(own)
            changes = [
                np.abs(
                    changes_of_gradients(
                        g, j, params, optimiser, opt_state=state, reduction=reduction
                    )
                )
                for g, j in zip(own, probes, strict=True)
            ]
            figure: dict[str, Any] = {
                "stage": teacher.stage,
                **{"optimiser": name, "reduction": reduction, "probes": kind},
                **self._compare([change.max(1) for change in changes], scores),
            }
            if name != "adam":
                step = rate if reduction == "sum" else rate / (self.batch_size - 1)
                figure["of_bound"] = _of_bound(changes, scores, [step * _norms(j) for j in probes])
            if kind == "batch":
                itself = [c.argmax(1) == np.arange(len(c)) for c in changes]
                figure["attained_by_itself"] = float(np.mean(itself))
            yield figure

    def _warm_gradients(self, loss: Callable, params: Any, images: Any, labels: Any) -> Any:
        """Mean gradients of `warmup` random mini-batches, stacked."""

        @jax.jit
        def gradient(batch):
            return jax.grad(lambda p: jax.vmap(partial(loss, p))(batch).mean())(params)

        generator = np.random.default_rng(self.seed + 1)
        rows = generator.integers(0, len(labels), (self.warmup, self.batch_size))
        gradients = [gradient((images[row], labels[row])) for row in rows]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)

    def _compare(self, utilities: list[np.ndarray], scores: list[dict]) -> dict[str, Any]:
        """Ranks of utility and scores, and what the teacher gets wrong."""
        pairs = list(zip(utilities, scores, strict=True))
        count = max(1, round(self.top * self.batch_size))
        ratios = np.concatenate([u / s["gradient_norm"] for u, s in pairs])
        low, high = np.nanquantile(ratios, (0.05, 0.95))
        return {
            "spearman": {
                name: _summary(stats.spearmanr(u, s[name]).statistic for u, s in pairs)
                for name in LABELS
            },
            "top_overlap": {
                name: _summary(
                    np.isin(_top(u, count), _top(s[name], count)).mean() for u, s in pairs
                )
                for name in LABELS
            },
            "utility_per_norm_95_to_5": float(high / low) if low > 0 else None,
            "wrong": {
                "of_all": float(np.mean([s["wrong"] for _, s in pairs])),
                "of_top": float(np.mean([s["wrong"][_top(u, count)] for u, s in pairs])),
                # How often an example that it gets wrong has more utility than one it gets right.
                "auc": _summary(
                    roc_auc_score(s["wrong"], u) if 0 < s["wrong"].mean() < 1 else np.nan
                    for u, s in pairs
                ),
            },
        }


def untrained(source: Source, like: Teacher, options: TeacherConfig, seed: int) -> Teacher:
    """The teacher before its first step."""
    architecture = models.Architecture.of(
        options.backbone or "convnet3",
        num_classes=len(source.class_names),
        image_size=source.image_size,
        channels=source.channels,
        **options.options(),
    )
    predict, _, stacked = models.initialise(architecture, (seed,))
    variables = jax.tree.map(lambda leaf: leaf[0], stacked)
    teacher = replace(like, predict=predict, variables=variables, stage="untrained")
    return replace(teacher, accuracy=evaluate(teacher, source.test.arrays()).top1)


def _scores(teacher: Teacher, images: Any, labels: Any, gradients: Any) -> dict[str, np.ndarray]:
    arguments = (teacher.predict, teacher.variables, images, labels)
    centred = jax.tree.map(lambda leaf: leaf - leaf.mean(0), gradients)
    return {
        "gradient_norm": _norms(gradients),
        "classifier_norm": np.asarray(scores.GradientNorm(wrt="classifier")(*arguments)),
        "el2n": np.asarray(scores.el2n(*arguments)),
        "cross_entropy": np.asarray(scores.cross_entropy(*arguments)),
        "centred_norm": _norms(centred),
        "wrong": np.asarray(teacher.predict(teacher.variables, images)).argmax(1) != labels,
    }


def _norms(gradients: Any) -> np.ndarray:
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(gradients)]
    return np.sqrt(sum(np.square(leaf).reshape(len(leaf), -1).sum(1) for leaf in leaves))


@cache  # one object, one compilation
def _optimiser(name: str, rate: float) -> optax.GradientTransformation:
    if name == "adam":
        return optax.adam(rate)
    return optax.sgd(rate, momentum=0.9 if name == "momentum" else None)


@partial(jax.jit, static_argnums=0)
def _warmed(optimiser: optax.GradientTransformation, params: Any, gradients: Any, scale: Any):
    def step(state, gradient):
        gradient = jax.tree.map(lambda leaf: scale * leaf, gradient)
        return optimiser.update(gradient, state, params)[1], None

    return jax.lax.scan(step, optimiser.init(params), gradients)[0]


def _of_bound(changes: list, scores: list[dict], steps: list) -> dict[str, float]:
    """Utility as a share of Theorem 1's c times the norm, over all examples."""
    rows = zip(changes, scores, steps, strict=True)
    shares = [c.max(1) / (step.max() * s["gradient_norm"]) for c, s, step in rows]
    return {"median": float(np.median(shares)), "max": float(np.max(shares))}


def _top(values: np.ndarray, count: int) -> np.ndarray:
    return np.argsort(-values, kind="stable")[:count]


def _summary(values: Any) -> dict[str, float | None]:
    """Mean and standard deviation over mini-batches, without those where it is undefined."""
    found = np.array([value for value in values if np.isfinite(value)])
    return {
        "mean": float(found.mean()) if len(found) else None,
        "std": float(found.std(ddof=1)) if len(found) > 1 else None,
    }


def table(results: Path) -> str:
    """Markdown of the JSON files in the folder, a section a source."""
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    head = (
        "Theorem 1 measured: Spearman rank correlation of each score with the exact utility, mean "
        "± standard deviation over mini-batches; behind the bar with other training images as "
        "probes instead of the mini-batch. Share of bound: utility over c times the gradient norm, "
        "median (largest). Top: share of the most useful that are also the highest in gradient "
        "norm. Wrong: share of the most useful, and of all, that the teacher gets wrong.\n"
    )
    return "\n".join([head, *(_section(record) for record in found)])


def _section(record: dict[str, Any]) -> str:
    arguments, options = record["arguments"], record["teacher_options"]
    accuracies = ", ".join(f"{k} {v['accuracy']:.1f}" for k, v in record["teachers"].items())
    reduced = f" Reduced to {record['reduced']}." if record["reduced"] else ""
    lines = [
        f"## {arguments['data']}\n",
        f"{options['backbone']} of width {options['width']}, {options['early_epochs']} and "
        f"{options['epochs']} epochs, test accuracy {accuracies}; "
        f"{arguments['batches']} mini-batches of {arguments['batch_size']}, {arguments['probes']} "
        f"other images; top {arguments['top']:.0%}.{reduced}\n",
        f"| stage | optimiser | {' | '.join(LABELS.values())} | share of bound | top | wrong |",
        "|" + " --- |" * (len(LABELS) + 5),
    ]
    # Each case with the mini-batch as probes, then with other images.
    for one, other in zip(record["figures"][::2], record["figures"][1::2], strict=True):
        cells = [_cell(one["spearman"][name], other["spearman"][name]) for name in LABELS]
        bound = one.get("of_bound")
        share = f"{bound['median']:.2f} ({bound['max']:.2f})" if bound else "none"
        wrong = f"{one['wrong']['of_top']:.0%} of {one['wrong']['of_all']:.0%}"
        tops = [f"{f['top_overlap']['gradient_norm']['mean']:.0%}" for f in (one, other)]
        top = " \\| ".join(tops)
        case = f"{one['optimiser']}, {one['reduction']}"
        lines.append(f"| {' | '.join([one['stage'], case, *cells, share, top, wrong])} |")
    return "\n".join(lines) + "\n"


def _cell(one: dict[str, float | None], other: dict[str, float | None]) -> str:
    mean, std, others = (
        "none" if value is None else f"{value:.2f}"
        for value in (one["mean"], one["std"], other["mean"])
    )
    return f"{mean} ± {std} \\| {others}"


if __name__ == "__main__":
    tyro.cli(Experiment).run()
