"""Measures what real readers do, and renders docs/readers.md.

    python -m experiments.readers                       # every library in its own environment
    python -m experiments.readers --only ours ours_npz  # ours again, keep the others
    python -m experiments.readers --only                # render the page again

The environments hold pinned packages (PyTorch and TensorFlow among them, some gigabytes); with
`--venvs FOLDER` they are kept there and used again. Ours runs in the environment of this command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Literal

import tyro

from experiments.readers.page import TITLES, load, page

HERE = Path(__file__).parents[2]
RESULTS = HERE / "experiments" / "results" / "real_readers"
PAGE = HERE / "docs" / "readers.md"
PINS = {
    "torch": ("torch==2.14.1", "torchvision==0.29.1", "medmnist==3.0.2", "pillow==13.0.0"),
    "tensorflow": ("tensorflow-cpu==2.21.0", "tensorflow-datasets==4.9.10", "keras==3.15.1"),
    "datasets": ("datasets==5.2.0", "pillow==13.0.0"),
    "tifffile": ("tifffile==2026.3.3", "imagecodecs==2026.3.6", "pillow==13.0.0"),
}
LIVES_IN = {
    "torchvision": "torch",
    "medmnist": "torch",
    "tfds": "tensorflow",
    "keras": "tensorflow",
    "datasets": "datasets",
    "tifffile": "tifffile",
}
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
}
Name = Literal[
    "torchvision", "tfds", "datasets", "keras", "tifffile", "medmnist", "ours", "ours_npz"
]


def environment(name: str, folder: Path) -> Path:
    """The Python of an environment with pinned packages, which is made where it is missing."""
    python = folder / name / "bin" / "python"
    pins = "\n".join(PINS[name])
    installed = folder / name / "installed"
    if not installed.exists() or installed.read_text() != pins:
        print(f"installing {', '.join(PINS[name])}", flush=True)
        venv.create(folder / name, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS[name]], check=True)
        installed.write_text(pins)
    return python


def run(python: Path | str, module: str, *arguments: str | Path) -> None:
    """Runs a module of ours in another environment."""
    subprocess.run(
        [python, "-m", f"experiments.readers.{module}", *map(str, arguments)],
        check=True,
        cwd=HERE,
        env={**os.environ, **QUIET, "PYTHONPATH": str(HERE)},
    )


def measure(names: tuple[str, ...], venvs: Path, scratch: Path) -> None:
    """Writes the facts of some libraries on every case, made anew."""
    cases = scratch / "cases"
    run(environment("tifffile", venvs), "cases", cases)
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copy(cases / "titles.json", RESULTS)
    for name in names:
        python = environment(LIVES_IN[name], venvs) if name in LIVES_IN else sys.executable
        run(python, "peers", name, cases, RESULTS / f"{name}.json")
        print(f"measured {name}", flush=True)


def main(only: tuple[Name, ...] | None = None, venvs: Path | None = None) -> None:
    """Measure what each reader makes of each case, and write the results and the page.

    Args:
        only: the readers to measure; the others keep what is known of them. None names all of
            them, no name at all none.
        venvs: where the environments are kept; None makes them in a temporary folder.
    """
    if names := tuple(TITLES) if only is None else only:
        with tempfile.TemporaryDirectory() as scratch:
            measure(names, Path(scratch) if venvs is None else venvs.resolve(), Path(scratch))
    PAGE.write_text(page(load(RESULTS)))


if __name__ == "__main__":
    tyro.cli(main)
