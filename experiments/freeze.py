"""Writes down what is to be tested, before test images are read.

    python -m experiments.freeze

What `infoutil()` does, how teachers and students are trained by default, and by which validation
results they were chosen go into `results/recommended/frozen.json`. `experiments.grid` reads test
images only for what is written there: whoever changes a default freezes anew, and runs anew.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import infoutil_jax
from experiments.datasets import TEST_VIEW
from experiments.leads import RESULTS, Leads
from infoutil_jax import infoutil, provenance
from infoutil_jax.app.config import tiling
from infoutil_jax.errors import InputError
from infoutil_jax.training.config import Facts, StudentConfig, TeacherConfig

FROZEN = RESULTS / "recommended" / "frozen.json"
SIZES = (240, 2000, 50_000)
SIDES = (8, 32, 64, 128)
BUDGETS = (1, 10, 50)


def choices() -> dict[str, Any]:
    """What can be chosen: the recipe, and the defaults for sets of several sizes."""
    facts = [Facts((side, side), images, 10) for side in SIDES for images in SIZES]
    # One width for every machine.
    teachers = [asdict(TeacherConfig(width=64).complete(one)) for one in facts]
    students = [asdict(StudentConfig(width=64, test_view=TEST_VIEW).complete(one)) for one in facts]
    for one in (*teachers, *students):
        for name in ("turn", "dsa", "partition"):
            if one.get(name) is False:  # as before there was the choice
                del one[name]
    recipe = provenance.describe(infoutil())
    if recipe["refine"] is None:  # as before recipes had such a part
        del recipe["refine"]
    described = {
        "recipe": recipe,
        "recipe_of_parted": provenance.describe(infoutil(tiles=4, partition=True)),
        "tiles": [
            {"side": side, "images_per_class": budget}
            | {"partition": False}
            | tiling(infoutil, (side, side), budget, fewest=100)
            for side in SIDES
            for budget in BUDGETS
        ],
        "teachers": teachers,
        "students": students,
    }
    plain: dict[str, Any] = json.loads(json.dumps(described, default=str))
    return plain


def freeze(path: Path = FROZEN) -> None:
    """Write the choices, and a digest of the results that they were made by."""
    leads = Leads(results=RESULTS / "validation")
    chosen_by = hashlib.sha256(f"{leads.table()}\n{leads.summary()}".encode()).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    code = provenance.code(Path(infoutil_jax.__file__).parent)
    frozen = {**choices(), "chosen_by": chosen_by, "code": code}
    path.write_text(json.dumps(frozen, indent=1) + "\n")


def check_frozen(path: Path = FROZEN) -> None:
    """Check that today's choices are those that are written down.

    Raises:
        InputError: they are not, or none are.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there: run experiments.freeze before test images are read")
    frozen = json.loads(path.read_text())
    for name, now in choices().items():
        if frozen[name] != now:
            raise InputError(
                f"{path} was written for other {name} than today's: choose on validation, run "
                "experiments.freeze, and run the test anew in a folder of its own"
            )


if __name__ == "__main__":
    freeze()
