"""What is said before work begins: what there is to do, how long, and where memory falls short."""

from dataclasses import replace

import jax
import pytest

from infoutil_jax import memory, parallel
from infoutil_jax.app import forecast as forecasts
from infoutil_jax.app.cli import main
from infoutil_jax.app.forecast import Cost, cost_of, forecast, parts_of, short_of_memory
from infoutil_jax.method.recipes import random
from infoutil_jax.refine import infoutil_refined
from infoutil_jax.training.config import StudentConfig, TeacherConfig

GIB = 2**30
TEACHER = TeacherConfig(epochs=9, early_epochs=1, batch_size=128)
STUDENT = StudentConfig(epochs=300, labels="hard", seeds=(0, 1))


@pytest.fixture
def cost(monkeypatch):
    """A network whose image takes a hundredth of a second and 2 MiB, with 1 GiB of state."""
    monkeypatch.setattr(forecasts, "cost_of", lambda *_: Cost(0.01, 2.0 * 2**20, GIB))


@pytest.fixture
def left(monkeypatch):
    def set_to(count):
        monkeypatch.setattr(memory, "available", lambda: count)

    set_to(100 * GIB)
    return set_to


def test_training_takes_so_long_by_its_images(digits, cost, left):
    """10 epochs of 1438 images, and 2 students of 3 recipes for 300 epochs of 20 images: 380 s."""
    assert forecast(digits, 2, 3, TEACHER, STUDENT) == (
        "10 epochs of teachers on 1438 images, then 6 students on sets of 3 recipes: about 8 "
        "minutes if nothing is there yet"
    )
    assert forecast(digits, 2, 1, None, STUDENT) == (
        "2 students on 20 images: about 2 minutes if nothing is there yet"
    )
    assert "about 2 minutes" in forecast(digits, 0, 0, TEACHER, None)


def test_refining_takes_so_long_by_what_its_networks_see(digits, cost, left):
    """16 tiles of ten classes: 3,000 steps, of 256 real images, 160 tiles and 100 of them again."""
    refine = infoutil_refined().refine
    assert refine.passes(160) == 3000 * (256 + 160 + 100)
    assert refine.passes(40) == 2000 * (256 + 80 + 40), "mirrored, too"
    assert forecast(digits, 16, 1, None, None, refining=[refine, random().refine]) == (
        "3000 steps of refining: about 258 minutes if nothing is there yet"
    )
    two = forecast(digits, 16, 1, None, STUDENT, refining=[refine] * 2)
    assert two.startswith("6000 steps of refining, then 2 students on 160 images: about 532 min")


def test_memory_is_said_only_where_it_falls_short(digits, cost, left, monkeypatch):
    """A teacher: 128 images of 2 MiB, 1 GiB of state, 92 kB of pixels. Two students: 2 GiB."""
    monkeypatch.setattr(parallel, "programs_at_once", lambda: 1)
    left(2 * GIB + 2**20)
    assert "memory" not in forecast(digits, 0, 0, TEACHER, None)
    left(GIB)
    said = forecast(digits, 0, 0, TEACHER, None).splitlines()
    assert said[1:] == [
        "memory may not suffice: teachers need about 1.3 GiB and this machine has 1.0 GiB left; a "
        "smaller batch_size or image_size needs less"
    ]
    assert "students need about 2.0 GiB" in forecast(digits, 2, 3, TEACHER, STUDENT)


@pytest.mark.parametrize(("cores", "needed"), [(1, 8.2), (4, 8.8), (64, 9.6)])
def test_as_many_students_need_memory_as_train_at_once(
    digits, cost, left, monkeypatch, cores, needed
):
    """Eight states of 1 GiB, and of each core 100 images of 2 MiB."""
    monkeypatch.setattr(parallel, "programs_at_once", lambda: cores)
    left(GIB)
    student = StudentConfig(labels="hard", seeds=tuple(range(8)))
    assert f"students need about {needed} GiB" in forecast(digits, 50, 1, None, student)
    two = replace(student, seeds_at_once=2)  # in one program, whatever the cores
    assert "students need about 8.4 GiB" in forecast(digits, 50, 1, None, two)


def test_on_an_accelerator_it_is_the_devices_memory(left, monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 16 * GIB, "bytes_in_use": 6 * GIB}

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    assert short_of_memory({"students": 10.0 * GIB}) == []
    (said,) = short_of_memory({"students": 10.5 * GIB})
    assert "need about 10.5 GiB and the device has 10.0 GiB left" in said


def test_where_no_system_tells_nothing_is_said(left):
    left(None)
    assert short_of_memory({"students": 2.0**80}) == short_of_memory({}) == []


def test_a_steps_memory_holds_the_first_layers_output(digits):
    """64 channels of 8×8 floats are the least that the backward pass needs of an image."""
    found = cost_of(StudentConfig(width=64), digits)
    assert 64 * 8 * 8 * 4 < found.activations < 40 * 64 * 8 * 8 * 4
    assert found.state % 16 == 0 and 0 < found.seconds < 1


def test_commands_say_it_before_they_begin(digits, tmp_path, capsys):
    teach = ["teacher", "digits", "--workdir", str(tmp_path / "t"), "--width", "4"]
    teach += ["--epochs", "2", "--early-epochs", "0"]
    assert main(teach) == 0
    said = capsys.readouterr().out
    assert said.index("2 epochs of teachers on 1438 images: about 1 minute") < said.index("top-1")
    assert main(teach) == 0
    assert "about 1 minute" not in capsys.readouterr().out, "there is nothing to be done"
    made = ["distill", "digits", "--teacher", str(tmp_path / "t"), "--workdir", str(tmp_path / "s")]
    assert main([*made, "--images-per-class", "1", "--recipe", "random", "--pool", "10"]) == 0
    study = ["student", str(tmp_path / "s"), "digits", "--labels", "stored", "--width", "4"]
    assert main([*study, "--epochs", "2", "--seeds", "0"]) == 0
    assert "1 student on 10 images: about 1 minute" in capsys.readouterr().out


def test_a_set_that_no_memory_holds_is_refused_before_work(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "total", lambda: 10_000)
    words = ["run", "digits", "--workdir", str(tmp_path / "w"), "--images-per-class", "10"]
    assert main(words) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "infoutil: " in one]
    assert line == (
        "infoutil: a set of 10 images of each of 10 classes would take 0 MiB and this machine has "
        "0 MiB of memory: lower --images-per-class or --image-size"
    )
    assert not (tmp_path / "w").exists()


def test_images_that_no_memory_holds_are_not_read(monkeypatch, capsys):
    monkeypatch.setattr(memory, "total", lambda: 10_000)
    assert main(["teacher", "digits", "--workdir", "w", "--in-memory", "True"]) == 2
    assert "choose --in-memory False, or a smaller --image-size" in capsys.readouterr().err


def test_a_student_sees_as_many_images_as_it_takes_tiles_for():
    whole, parted = StudentConfig(), StudentConfig(partition=True)
    assert [parts_of(random(tiles=4), student) for student in (whole, parted)] == [1, 4]
    refined = infoutil_refined()
    students = whole, parted, StudentConfig(partition=False)
    assert [parts_of(refined, student) for student in students] == [4, 4, 1]
