"""The notebook runs from top to bottom, at small settings."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "colab" / "quickstart.ipynb"


def test_quickstart_notebook(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    parameters = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(parameters) == 1
    small = f"""
STUDENT_EPOCHS = 5
TEACHER_EPOCHS = 3
IMAGES_PER_CLASS = 2
POOL = 10
SEEDS = (0, 1)
WORKDIR = {str(tmp_path)!r}
"""
    parameters[0].source += small
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    printed = "".join(o.get("text", "") for o in outputs)
    assert "| infoutil" in printed and "±" in printed
    assert any("image/png" in o.get("data", {}) for o in outputs)


def test_notebook_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not c.outputs for c in notebook.cells if c.cell_type == "code")
