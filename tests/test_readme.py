"""What the README shows runs, and its figures are those of the committed results."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments import held_out
from experiments.report import RESULTS, page, summary

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    """On three photographs a class, hence one image of one tile a class."""
    monkeypatch.chdir(tmp_path)
    weights = jax.random.normal(jax.random.key(0), (128 * 128 * 3, 3)) / 200
    names = {
        "predict": lambda w, x: x.reshape(len(x), -1) @ w,
        "variables": weights,
        "images": jax.random.normal(jax.random.key(1), (2, 128, 128, 3)),
        "labels": jnp.asarray([0, 1]),
        "loss_fn": lambda params, example: jnp.square(params @ example),
        "params": jnp.ones(3),
        "batch": jnp.ones((5, 3)),
    }
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) == 4
    for snippet in snippets:
        small = snippet.replace(
            "folder:PATH", f"folder:{ROOT / 'tests' / 'fixtures' / 'imagenette'}"
        )
        exec(small.replace("tiles=4", "tiles=1").replace("class=10", "class=1"), names)
    assert names["distilled"].images.shape == (3, 128, 128, 3)
    assert names["phi"].shape == (16, 2)
    assert names["norms"].shape == (5,)
    assert names["recipe"].selector.reduce is not None


def test_the_results_are_the_committed_ones():
    shown = re.search(r"<!-- results -->\n(.*)<!-- /results -->", README, re.DOTALL)
    assert shown is not None
    assert summary(RESULTS).strip() == shown.group(1).strip() != ""
    assert (RESULTS / "README.md").read_text() == page(RESULTS)
    assert (held_out.RESULTS / "table.md").read_text() == held_out.table(held_out.RESULTS)


@pytest.mark.parametrize("name", ["README.md", "experiments/README.md", "docs/guide.md"])
def test_every_file_it_links_to_exists(name):
    page = ROOT / name
    links = re.findall(r"\]\((?!http)([^)]+)\)", page.read_text())
    assert links
    for link in links:
        assert (page.parent / link).exists(), link
