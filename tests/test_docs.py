"""What README and docs show runs, their commands parse, their links lead somewhere."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

import infoutil_jax
from experiments import held_out
from experiments.report import RESULTS, page, summary
from infoutil_jax import Teacher, create, open_source
from infoutil_jax.app.accounts import accuracy_table
from infoutil_jax.app.cli import commands
from infoutil_jax.data.distilled import write_distilled
from infoutil_jax.models.torch_weights import to_torchvision
from infoutil_jax.training.config import BackboneConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "experiments/README.md"),
    *DOCS,
]
IMAGES = ROOT / "tests" / "fixtures" / "imagenette"  # three photographs a class

# What makes each page's blocks small: every text on the left is on the page.
SMALLER = {
    "README.md": {"tiles=4": "tiles=1", "class=10": "class=1", "size=128": "size=32"},
    "docs/models.md": {
        '"resnet50", "resnet50.pth"': '"convnet3", "resnet50.npz", image_size=32',
        "(224, 224)": "(32, 32)",
    },
    "docs/recipes.md": {
        "in (1, 2)": "in (1,)",
        "TeacherConfig(epochs=20)": "TeacherConfig(epochs=1, early_epochs=0, width=8)",
        "StudentConfig(seeds=(0, 1, 2))": "StudentConfig(seeds=(0, 1), epochs=1, width=8)",
    },
    "docs/refine.md": {"steps=20": "steps=2, batch_size=6, network=SMALL"},
    "docs/sets.md": {"epochs=300": "epochs=2", "range(300)": "range(2)", "128": "8"},
    "docs/stream.md": {
        "keep=10, every=10": "keep=1, every=1",
        'labels="stored"': 'labels="stored", epochs=2, width=8, seeds=(0,)',
    },
    "docs/tutorial.md": {
        "width=32": "width=8",
        "epochs=300": "epochs=2",
        "epochs=30)": "epochs=2, early_epochs=2)",
        "(0, 1, 2)": "(0, 1)",
        "class=10": "class=1",
    },
}


def linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def readme(folder):
    return {"predict": linear, "variables": _weights(32)}


def images(folder):
    rng = np.random.default_rng(0)
    split = {"images": rng.integers(0, 255, (4, 28, 28, 3), np.uint8), "labels": [0, 1, 0, 1]}
    np.savez(
        folder / "pathmnist.npz",
        **{f"{name}_{what}": split[what] for name in ("train", "test") for what in split},
    )
    for name, shape, most in (("XRAYS", (64, 64), 4096), ("TILES", (16, 16, 6), 256)):
        for label in "ab":
            for number in range(2):
                file = folder / name / label / f"{number}.npy"
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, rng.integers(0, most, shape, np.uint16))
    return {}


def models(folder):
    model = create("convnet3", num_classes=3, image_size=32, rngs=_rngs(), width=8)
    np.savez(folder / "resnet50.npz", **to_torchvision(model))
    return {"variables": {"weights": _weights(32), "bias": jnp.zeros(3)}}


def recipes(folder):
    return {
        "predict": linear,
        "variables": _weights(32),
        "teacher": Teacher(linear, _weights(32), mean=0.5, std=0.25),
        "images": jax.random.normal(jax.random.key(1), (2, 32, 32, 3)),
        "labels": jnp.asarray([0, 1]),
        "loss_fn": lambda params, example: jnp.square(params @ example),
        "params": jnp.ones(3),
        "batch": jnp.ones((5, 3)),
    }


def devices(folder):
    source = open_source(f"folder:{IMAGES}", image_size=32)
    return {"source": source, "teacher": Teacher(linear, _weights(32), mean=0.5, std=0.25)}


def arriving(folder):
    about = devices(folder)
    images, labels = about["source"].train.arrays()
    names = replace(about["teacher"], class_names=about["source"].class_names)
    return about | {
        "teacher": names,
        "batches": [(images[::2], labels[::2]), (images[1::2], labels[1::2])],
    }


def sets(folder):
    images, labels = open_source("digits").train.arrays()
    chosen = np.array([np.flatnonzero(labels == label)[0] for label in range(10)])
    write_distilled(
        folder / "SET",
        images=images[chosen],
        labels=labels[chosen],
        soft_labels=8 * np.eye(10, dtype=np.float32)[:, None],
        class_names=tuple("0123456789"),
        records=[{}] * 10,
        manifest={},
    )
    return {}


# What stands before each page's first block, hidden: files in the folder, and names.
SETUP = {"README.md": readme}
SETUP |= {f"docs/{one.__name__}.md": one for one in (images, models, recipes, devices, sets)}
SETUP["docs/report.md"] = devices
SETUP["docs/refine.md"] = lambda folder: devices(folder) | {"SMALL": BackboneConfig(width=8)}
SETUP["docs/trust.md"] = sets
SETUP["docs/governance.md"] = devices
SETUP["docs/stream.md"] = arriving


def _weights(side):
    return jax.random.normal(jax.random.key(0), (side * side * 3, 3)) / 200


def _rngs():
    from flax import nnx

    return nnx.Rngs(0)


def blocks(name, language="python"):
    text = (ROOT / name).read_text()
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    for old, new in SMALLER.get(name, {}).items():
        assert old in text, f"{name} has no {old!r}"
        found = [block.replace(old, new) for block in found]
    return [block.replace("folder:PATH", f"folder:{IMAGES}") for block in found]


def library(block):
    """Whose program a block is, where it is one of another library: run in its own process."""
    found = re.search(r"^import (torch|keras)$", block, re.M)
    return found and found[1]


WITH_PYTHON = [name for name in PAGES if blocks(name)]
PROGRAMS = [(name, library(block)) for name in WITH_PYTHON for block in blocks(name)]


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_the_blocks_of_a_page_run_one_after_the_other(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = SETUP.get(name, lambda folder: {})(tmp_path)
    for block in blocks(name):
        if not library(block):
            exec(compile(block, name, "exec"), names)
    if name == "docs/recipes.md":
        assert names["phi"].shape == (16, 2) and names["norms"].shape == (5,)
        assert len(names["sets"]) == 3


@pytest.mark.parametrize(("name", "module"), [one for one in PROGRAMS if one[1]])
def test_a_program_of_another_library_runs(name, module, tmp_path):
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    SETUP[name](tmp_path)
    (program,) = (block for block in blocks(name) if library(block) == module)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=300)


def test_every_public_name_is_in_the_api():
    pages = "".join((ROOT / name).read_text() for name in DOCS)
    shown = set(re.findall(r"^::: (\S+)$", pages, re.M))
    for name in infoutil_jax.__all__:
        thing = getattr(infoutil_jax, name)
        path = getattr(thing, "__module__", None)
        place = f"{path}.{thing.__qualname__}" if path else thing.__name__
        within = any(one.startswith(f"{place}.") for one in shown)  # a module, by its parts
        assert place in shown or path in shown or within, name


def lines_of_shell(name):
    """Commands in blocks of shell, fenced or indented, without comments."""
    text = (ROOT / name).read_text()
    fenced = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)).splitlines()
    indented = re.findall(r"^ {4}((?:infoutil|make|pip|python -m) .*)$", text, re.M)
    return [words for line in fenced + indented if (words := shlex.split(line, comments=True))]


def flags_in_text(name):
    """Of `infoutil run`, where a sentence names several words of them."""
    spans = re.findall(r"`(--(?:teacher|student)\.[^`]* [^`]*)`", (ROOT / name).read_text())
    return [["infoutil", "run", "digits", *span.split()] for span in spans]


SHELL = [(name, words) for name in PAGES for words in lines_of_shell(name) + flags_in_text(name)]


@pytest.mark.parametrize(("name", "words"), SHELL, ids=[" ".join(one[1])[:60] for one in SHELL])
def test_the_commands_parse(name, words):
    program, *arguments = words
    if program == "infoutil":
        tyro.cli(commands(arguments), args=arguments)
    elif program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
        assert arguments[0] in targets
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = set(re.findall(r"\w+", "".join(re.findall(r"\[(.*)\]", arguments[1]))))
        assert arguments[0] == "install" and wanted <= set(extras["optional-dependencies"])
    elif program.endswith(("python", "python3")):
        assert arguments[0] == "-m" and find_spec(arguments[1])
    else:
        raise AssertionError(f"{name}: what is {program}?")


def anchors_of(text):
    """Of a page's headings, as the site and hosts of repositories make them."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", prose, re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).strip().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(name):
    page = ROOT / name
    links = re.findall(r"\]\((?!http)([^)\s]+)\)", page.read_text())
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target.read_text()), link


def test_the_results_are_the_committed_ones():
    shown = re.search(r"<!-- results -->\n(.*)<!-- /results -->", README, re.DOTALL)
    assert shown is not None
    assert summary(RESULTS).strip() == shown.group(1).strip() != ""
    assert (RESULTS / "README.md").read_text() == page(RESULTS)
    assert (held_out.RESULTS / "table.md").read_text() == held_out.table(held_out.RESULTS)


def test_the_tutorial_shows_what_the_quickstart_prints():
    text = (ROOT / "docs" / "tutorial.md").read_text()
    shown = re.search(r"<!-- quickstart -->\n(.*)\n<!-- /quickstart -->", text, re.DOTALL)
    rows = json.loads((RESULTS / "quickstart" / "summary.json").read_text())["top1"]
    table = accuracy_table(
        {name: {int(budget): row[budget] for budget in row} for name, row in rows.items()}
    )
    assert shown is not None and shown[1] == table


def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", site]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    pages = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}
    assert {"index.html", "method.html", "api.html", "experiments/index.html"} <= set(pages)
    for name, text in pages.items():
        assert not re.search(r"<(script|img|iframe|link rel=.stylesheet)[^>]*=.https?:", text), name
        assert ":math:" not in text and 'class="arithmatex"' not in text, name
    assert pages["method.html"].count("<math") > 40
