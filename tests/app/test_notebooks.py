"""Every notebook runs from top to bottom; what is committed is clean and light."""

import importlib.util
import re

import nbformat
import pytest
from PIL import Image

from tools.notebooks import FOLDER, ROOT, cleaned, executed

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 200_000
SMALLER = {
    "quickstart": {
        "STUDENT_EPOCHS = 300": "STUDENT_EPOCHS = 5",
        "TEACHER_EPOCHS = 30": "TEACHER_EPOCHS = 3",
        "epochs=TEACHER_EPOCHS": "epochs=TEACHER_EPOCHS, early_epochs=1",
        "width=32": "width=8",
        "IMAGES_PER_CLASS = 10": "IMAGES_PER_CLASS = 2",
        "POOL = None": "POOL = 10",
        "SEEDS = (0, 1, 2)": "SEEDS = (0, 1)",
    },
    "your_own_images": {
        "epochs=20, early": "epochs=2, early",
        "epochs=40": "epochs=3",
        "width=16": "width=8",
    },
    "custom_objective": {
        "else 30 ": "else 6 ",
        "else 60 ": "else 3 ",
        "range(15)": "range(3)",
        "(0, 1, 2)": "(0, 1)",
    },
    "reproduce_cifar10": {
        '"width": 16': '"width": 8',
        '"teacher_epochs": 5': '"teacher_epochs": 1',
        '"early_epochs": 5': '"early_epochs": 1',
        '"student_epochs": 30,': '"student_epochs": 2,',
    },
    "use_in_pytorch": {"epochs=15": "epochs=6", "width=32": "width=8", "else 100": "else 3"},
}
"""What makes a notebook small: every text on the left is in its code."""
SAYS = {
    "quickstart": r"\| infoutil .*±",
    "your_own_images": r"students, top-1 in percent: \[",
    "custom_objective": r"\| mine .*±",
    "reproduce_cifar10": r"\| infoutil_kernel .*±",
    "use_in_pytorch": r"% of 359 test images, from 100 distilled ones",
}


def every():
    """Each notebook, and why some cannot run here."""
    torch = importlib.util.find_spec("torch")
    without = pytest.mark.skipif(not torch, reason="torch is not installed")
    marks = {"use_in_pytorch": [without]}
    return [pytest.param(one, id=one.stem, marks=marks.get(one.stem, [])) for one in NOTEBOOKS]


each = pytest.mark.parametrize("path", [pytest.param(one, id=one.stem) for one in NOTEBOOKS])


@pytest.fixture
def stand_in(digits, tmp_path, monkeypatch):
    """Digits in colour and of 32 pixels, where the notebook looks for CIFAR-10."""
    for row in range(300):
        name = digits.class_names[digits.train.labels[row]]
        file = tmp_path / "cifar10" / name / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(digits.train.image(row)[..., 0]).convert("RGB")
        image.resize((32, 32)).save(file)
    monkeypatch.setenv("CIFAR10", f"folder:{tmp_path / 'cifar10'}")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("path", every())
def test_it_runs_from_top_to_bottom(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    assert len([c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]) == 1
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for old, new in SMALLER[path.stem].items():
        assert any(old in cell.source for cell in code), f"{path.stem} has no {old!r}"
        for cell in code:
            cell.source = cell.source.replace(old, new)
    outputs = [o for c in executed(notebook, tmp_path).cells for o in c.get("outputs", [])]
    printed = "".join(o.text for o in outputs if o.get("name") == "stdout")
    assert re.search(SAYS[path.stem], printed), printed


@each
def test_what_is_committed_has_outputs_and_is_clean_and_light(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook == cleaned(notebook), "python -m tools.notebooks writes it"
    assert path.stat().st_size < MOST_BYTES
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs and not [o for o in outputs if o.output_type == "error"]
    printed = "".join(o.text for o in outputs if o.output_type == "stream")
    assert re.search(SAYS[path.stem], printed)
    assert "/tmp" not in path.read_text()


@each
def test_it_installs_from_the_repository_which_is_named_once(path):
    first = [
        next(c for c in nbformat.read(one, 4).cells if c.cell_type == "code") for one in NOTEBOOKS
    ]
    assert len({cell.source for cell in first}) == 1
    assert first[0].source.count("git+") == path.read_text().count("git+") == 1
    assert path.read_text().count("%pip") == 1


@each
def test_it_needs_the_package_alone_and_links_to_what_is_there(path):
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert not re.search(r"(import|from) (experiments|tests|tools)\b", code)
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        assert (path.parent / link).exists(), link


def test_its_tables_are_those_of_the_results():
    notebook = nbformat.read(FOLDER / "reproduce_cifar10.ipynb", as_version=4)
    page = (ROOT / "experiments" / "results" / "README.md").read_text()
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    full, reduced = text.split('`"full"`, ')[1].split('`"reduced"`, ')
    for shown, title in ((full, "CIFAR-10, convnet3"), (reduced, "CIFAR-10, convnet3, reduced")):
        rows = re.findall(r"^\| [a-z].*$", shown, re.MULTILINE)
        assert len(rows) == 3 and all(row in sections[title] for row in rows)
        early, converged = re.search(r"teachers ([\d.]+) \(early\) and ([\d.]+):", shown).groups()
        assert f"Teacher: early {early}, converged {converged}." in sections[title]
