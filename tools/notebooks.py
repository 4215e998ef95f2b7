"""Runs the notebooks of colab/ and writes what they show into them.

    python -m tools.notebooks [NAME ...]

Each runs in a folder of its own and with the package of this checkout. Times, progress lines and
what else changes from run to run are left out, so that equal results are equal files.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "colab"
LONGEST_CELL = 1800  # seconds
WIDGET = "application/vnd.jupyter.widget-view+json"


def executed(notebook: Any, workdir: Path) -> Any:
    """The notebook as it is after a run from top to bottom, in a new kernel.

    Args:
        notebook: stays as it is.
        workdir: the kernel's working folder.

    Raises:
        CellExecutionError: a cell fails.
    """
    client = NotebookClient(
        notebook.copy(),
        timeout=LONGEST_CELL,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(workdir)}},
    )
    return client.execute(env={**os.environ, "PYTHONPATH": _path()})


def cleaned(notebook: Any) -> Any:
    """The notebook without what changes from run to run or from machine to machine."""
    clean = nbformat.from_dict(notebook)
    clean.metadata["language_info"] = {"name": "python"}
    for number, cell in enumerate(clean.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
        if cell.cell_type == "code":
            cell["outputs"] = _joined([output for output in cell.outputs if _is_shown(output)])
    return clean


def _joined(outputs: list[Any]) -> list[Any]:
    """The outputs, what was printed in a row as one: how it was cut is a matter of time."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1]["text"] += output.text
        else:
            joined.append(output)
    return joined


def _is_shown(output: Any) -> bool:
    """Whether an output is more than progress or a warning."""
    return output.get("name") != "stderr" and WIDGET not in output.get("data", {})


def _path() -> str:
    """Where the kernel finds modules: this checkout before all else."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def main(names: list[str]) -> int:
    """Entry point; returns the exit code."""
    for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as workdir:
            notebook = executed(nbformat.read(path, as_version=4), Path(workdir))
        nbformat.write(cleaned(notebook), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
