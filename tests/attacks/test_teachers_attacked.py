"""Teachers' folders that are damaged or changed."""

import json

import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.training.teacher import load_teacher
from tests.attacks import fuzz


def test_damaged_teachers_are_told_and_never_another(teacher_dir, tmp_path):
    counts, others = fuzz.broken_teachers(teacher_dir, tmp_path, 25)
    assert not counts.wrong and counts["told"] > 10 and others == 0


@pytest.mark.parametrize(("key", "value"), [("num_classes", 5), ("options", {"width": 8})])
def test_a_checkpoint_of_another_network_is_told(teacher_dir, tmp_path, key, value):
    """Orbax would cut and fill its arrays. The record of an earlier version has no digest."""
    for name in ("stages", "config.json"):
        (tmp_path / name).symlink_to(teacher_dir / name)
    record = json.loads((teacher_dir / "stages/converged.json").read_text())
    config = json.loads((teacher_dir / "config.json").read_text()) | {key: value}
    config["class_names"] = None
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="has changed since it was trained"):
        load_teacher(tmp_path)
    (tmp_path / "stages").unlink()
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/converged").symlink_to(teacher_dir / "stages/converged")
    (tmp_path / "stages/converged.json").write_text(json.dumps({"accuracy": record["accuracy"]}))
    with pytest.raises(InputError, match="it is of another network"):
        load_teacher(tmp_path)


def test_a_digest_that_is_no_text_is_told(teacher_dir, tmp_path):
    (tmp_path / "stages").mkdir()
    for name in ("config.json", "stages/converged"):
        (tmp_path / name).symlink_to(teacher_dir / name)
    record = json.loads((teacher_dir / "stages/converged.json").read_text())
    (tmp_path / "stages/converged.json").write_text(json.dumps(record | {"sha256": 1e308}))
    with pytest.raises(InputError, match="has changed since it was trained"):
        load_teacher(tmp_path)
