"""Sdist and wheel build without an index, and the wheel works without the repository."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from infoutil_jax.data.distilled import write_distilled

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def said(*command, **options):
    """What a command has printed; it has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An sdist of the repository, and a wheel of the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    text = said(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    text += said(*PIP, "wheel", *offline, sdist, cwd=folder)
    assert "warn" not in text.lower() and "deprecat" not in text.lower(), text
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(built):
    sdist, wheel = built
    files = (file for file in (ROOT / "infoutil_jax").rglob("*") if file.is_file())
    package = {str(file.relative_to(ROOT)) for file in files if file.suffix != ".pyc"}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == package
    assert {"infoutil_jax/py.typed", "infoutil_jax/__init__.pyi"} <= names
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    assert package | {"pyproject.toml", "README.md", "LICENSE"} <= sources
    assert not [name for name in sources if name.startswith(("tests", "experiments"))]


def test_the_installed_wheel_works_without_the_repository(built, tmp_path):
    place, works = tmp_path / "place", tmp_path / "works"
    works.mkdir()
    said(*PIP, "install", "--no-index", "--no-deps", "--target", place, built[1], cwd=works)
    made = write_distilled(
        tmp_path / "set",
        images=np.zeros((2, 8, 8, 3), np.uint8),
        labels=np.arange(2, dtype=np.int32),
        soft_labels=np.zeros((2, 1, 2), np.float32),
        class_names=("cat", "dog"),
        records=[{"tiles": []}] * 2,
        manifest={"recipe": "random"},
    )
    # Without `site` (-S) no editable installation of the repository is found.
    libraries = [path for path in sys.path if Path(path).name == "site-packages"]
    options = {
        "cwd": works,
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *libraries])},
    }
    python = (sys.executable, "-S")
    command = (*python, place / "bin" / "infoutil")
    assert "Distil an image set" in said(*command, "--help", **options)
    assert "2 images" in said(*command, "verify", made.path, **options)
    program = """
import importlib.util, infoutil_jax
for name in infoutil_jax.__all__:
    getattr(infoutil_jax, name)
assert not any(map(importlib.util.find_spec, ("experiments", "tests", "tools")))
print(infoutil_jax.__file__)
"""
    assert said(*python, "-c", program, **options).strip().startswith(str(place))
