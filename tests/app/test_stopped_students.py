"""Commands that are stopped while students train go on with these, and leave nothing behind."""

import errno
import json
import os
import signal

import pytest

from infoutil_jax import locks, progress
from infoutil_jax.app.cli import main
from infoutil_jax.training import student

SMALL = [
    *("--images-per-class", "1", "--teacher.width", "4", "--teacher.epochs", "1"),
    *("--teacher.early-epochs", "0", "--student.width", "4", "--student.epochs", "3"),
    *("--student.seeds", "0", "1"),
]
RUN = ["run", "digits", *SMALL, "--recipe", "rded"]
COMPARE = ["compare", "digits", *SMALL, "--recipes", "rded"]


@pytest.fixture(autouse=True)
def kept_after_each_epoch(monkeypatch):
    """And not only now and then, which is what saves time."""
    monkeypatch.setattr(student, "SAVING", 1.0)


def studied(monkeypatch, words, number=None):
    """The exit status of a command, terminated in the students' update of this number, and how many
    epochs students took."""
    update, epochs = progress.Bar.update, []

    def counting(bar, count=1, **figures):
        update(bar, count, **figures)
        if bar.stage == "students":
            epochs.append(count)
            if len(epochs) == number:
                signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(progress.Bar, "update", counting)
        return main(list(map(str, words))), sum(epochs)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def figures(file):
    """What a command has written, without times."""
    found = json.loads(file.read_text())
    students = [
        *(found[name] for name in ("student", "random", "student_details") if name in found),
        *(one["student"] for one in found.get("recipes", {}).values()),
    ]
    for one in students:
        one.pop("seconds", None)
    return students


@pytest.mark.parametrize(
    ("words", "file"), [(RUN, "summary.json"), (COMPARE, "comparison.json")], ids=["run", "compare"]
)
def test_students_go_on_where_they_were(words, file, tmp_path, monkeypatch):
    """Terminated in the second epoch of the second students, where six are due in all."""
    whole, stopped = ([*words, "--workdir", tmp_path / name] for name in ("whole", "stopped"))
    assert studied(monkeypatch, whole) == (0, 6)
    assert studied(monkeypatch, stopped, 5) == (75, 5)
    assert "students" in names(tmp_path / "stopped")
    assert studied(monkeypatch, stopped) == (0, 1), "one epoch was left"
    assert names(tmp_path / "stopped") == names(tmp_path / "whole")
    assert figures(tmp_path / "stopped" / file) == figures(tmp_path / "whole" / file)
    assert studied(monkeypatch, stopped) == (0, 0), "none was left"
    assert figures(tmp_path / "stopped" / file) == figures(tmp_path / "whole" / file)


def test_a_finished_run_given_again_trains_nothing_and_prints_the_same(
    tmp_path, monkeypatch, capsys
):
    words, summary = [*RUN, "--workdir", tmp_path], tmp_path / "summary.json"
    assert studied(monkeypatch, words) == (0, 6)
    whole, before = capsys.readouterr().out, summary.read_bytes()
    (tmp_path / "overview.png").unlink()
    (tmp_path / "students").mkdir()  # killed as it removed them
    assert studied(monkeypatch, words) == (0, 0)
    told = capsys.readouterr()
    assert f"{summary} is there already" in told.err
    assert summary.read_bytes() == before and (tmp_path / "overview.png").is_file()
    assert not (tmp_path / "students").exists()
    # All that was printed before, but for the guess of how long it would take.
    assert [line for line in whole.splitlines() if "about 1 minute" not in line] == (
        told.out.splitlines()
    )
    assert studied(monkeypatch, [*words, "--student.epochs", "2"]) == (0, 4), "other students"


@pytest.fixture(scope="module")
def small(teacher_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("small") / "set"
    words = ["--images-per-class", "1", "--recipe", "random", "--pool", "20"]
    made = ["distill", "digits", "--teacher", teacher_dir, "--workdir", workdir, *words]
    assert main(list(map(str, made))) == 0
    return workdir


@pytest.fixture
def study(teacher_dir, small):
    tiny = ["--width", "4", "--epochs", "3", "--seeds", "0"]
    return ["student", small, "digits", "--teacher", teacher_dir, *tiny]


def test_students_of_a_set_go_on_beside_it(study, small, monkeypatch, capsys):
    before = names(small.parent)
    assert studied(monkeypatch, study) == (0, 3)
    whole = capsys.readouterr().out
    assert names(small.parent) == before
    assert studied(monkeypatch, study, 2) == (75, 2)
    assert "set.students" in names(small.parent)
    other = [*study, "--labels", "hard"]
    assert studied(monkeypatch, other) == (0, 3), "another command does not disturb them"
    capsys.readouterr()
    assert studied(monkeypatch, [*study, "--log-json", small.parent / "log"]) == (0, 1)
    assert capsys.readouterr().out == whole
    assert set(names(small.parent)) == {*before, "log"}


def test_beside_a_set_on_a_read_only_disk_nothing_is_kept(study, small, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(locks, "_held", refuse)
    assert studied(monkeypatch, study) == (0, 3)
    assert "Read-only file system): these students begin anew" in capsys.readouterr().err
    assert "set.students" not in names(small.parent)


def test_the_same_command_twice_at_once_is_refused(study, monkeypatch, capsys):
    update = progress.Bar.update
    statuses = []

    def again(bar, count=1, **figures):
        update(bar, count, **figures)
        if bar.stage == "students" and not statuses:
            statuses.append(None)
            with monkeypatch.context() as other:  # as if it were another process
                other.setattr(locks, "_mine", {})
                statuses.append(main(list(map(str, study))))

    monkeypatch.setattr(progress.Bar, "update", again)
    assert main(list(map(str, study))) == 0
    assert statuses == [None, 2]
    assert "is in use by process" in capsys.readouterr().err
