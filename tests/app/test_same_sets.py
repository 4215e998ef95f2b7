"""The command line and the functions make the same sets, whatever the recipe."""

import pytest

from infoutil_jax.app.cli import main
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.method.recipes import RECIPES


def files(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_bytes_from_both(name, digits, teachers, teacher_dir, tmp_path):
    command = ["distill", "digits", "--teacher", str(teacher_dir), "--recipe", name]
    command += ["--workdir", str(tmp_path / "command"), "--images-per-class", "1", "--pool", "6"]
    assert main(command) == 0
    distill(
        digits,
        teachers["converged"],
        RECIPES[name](),
        images_per_class=1,
        workdir=tmp_path / "function",
        label_teacher=teachers["early"],
        config=DistillConfig(pool=6, progress=False),
    )
    assert files(tmp_path / "command") == files(tmp_path / "function")
