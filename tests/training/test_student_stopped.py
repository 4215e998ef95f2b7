"""Students that are stopped go on where they were, to the numbers of undisturbed ones."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax import progress
from infoutil_jax.training import student
from infoutil_jax.training.config import StudentConfig
from infoutil_jax.training.latest import Latest
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision
from infoutil_jax.training.teacher import Teacher

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(3, dtype=np.int32), 6)
TRAIN = RNG.integers(0, 256, (18, 8, 8, 1), np.uint8), LABELS
TEST = RNG.integers(0, 256, (18, 8, 8, 1), np.uint8), LABELS
CONFIG = StudentConfig(width=4, epochs=6, labels="hard", seeds=(0, 1), evaluate_every=2)
HARD = Supervision(num_classes=3, mean=(0.5,), std=(0.3,))


def linear(variables, images):
    return images.reshape(len(images), -1) @ variables["w"]


WEIGHTS = {"w": jnp.asarray(RNG.normal(size=(64, 3)), jnp.float32)}
TEACHER = Teacher(linear, WEIGHTS, mean=(0.5,), std=(0.3,), version="1")
SOFT = RNG.normal(size=(18, 1, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def kept_after_each_chunk(monkeypatch):
    """And not only now and then, which is what saves time."""
    monkeypatch.setattr(student, "SAVING", 1.0)


class Stop(Exception):
    """In the place of a kill."""


def stopped(monkeypatch, at, work):
    """Work that dies when epoch `at` is done."""
    update = progress.Bar.update

    def stopping(bar, count=1, **figures):
        update(bar, count, **figures)
        if bar.done >= at:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(progress.Bar, "update", stopping)
        with pytest.raises(Stop):
            work()


def counted(monkeypatch, work):
    """What work returns, and how many epochs it took."""
    counts = []
    with monkeypatch.context() as patched:
        patched.setattr(progress.Bar, "update", lambda bar, count=1, **_: counts.append(count))
        return work(), sum(counts)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
    for name in ("top1", "top5", "ece", "confusion", "reliability", "loss", "top1_best"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


LESSONS = {
    "hard": (CONFIG, HARD),
    "online": (replace(CONFIG, labels="online", seeds_at_once=2), Supervision(3, TEACHER)),
    "stored": (
        replace(CONFIG, labels="stored", evaluate_every=None),
        replace(HARD, soft_labels=SOFT),
    ),
}


@pytest.mark.parametrize("labels", LESSONS)
@pytest.mark.parametrize("at", [2, 6])
def test_stopped_students_end_in_the_numbers_of_undisturbed_ones(at, labels, tmp_path, monkeypatch):
    config, supervision = LESSONS[labels]

    def train(folder=None):
        return train_student(TRAIN, TEST, config, supervision=supervision, folder=folder)

    whole = train()
    stopped(monkeypatch, at, lambda: train(tmp_path))
    again, epochs = counted(monkeypatch, lambda: train(tmp_path))
    assert epochs == 6 - at
    same(again, whole)
    finished, epochs = counted(monkeypatch, lambda: train(tmp_path))
    assert epochs == 0, "nothing is left to do"
    same(finished, whole)


def test_time_before_a_stop_counts(tmp_path, monkeypatch):
    spent, save = [], Latest.save

    def noted(kept, step, state):
        spent.append(float(state[2][0]))
        save(kept, step, state)

    monkeypatch.setattr(Latest, "save", noted)
    train_student(TRAIN, TEST, CONFIG, supervision=HARD, folder=tmp_path)
    again = train_student(TRAIN, TEST, CONFIG, supervision=HARD, folder=tmp_path)
    assert len(spent) == 3 and again.seconds > spent[-1] > spent[0] > 0


@pytest.mark.parametrize(
    "change",
    [
        {"config": replace(CONFIG, learning_rate=0.002)},
        {"config": replace(CONFIG, seeds=(0, 2))},
        {"train": (255 - TRAIN[0], LABELS)},
        {"test": (255 - TEST[0], LABELS)},
        {"supervision": replace(HARD, mean=(0.4,))},
    ],
)
def test_students_of_other_arguments_begin_anew(change, tmp_path, monkeypatch):
    def train(train=TRAIN, test=TEST, config=CONFIG, supervision=HARD):
        return train_student(train, test, config, supervision=supervision, folder=tmp_path)

    train()
    other, epochs = counted(monkeypatch, lambda: train(**change))
    assert epochs == 6 and len(list(tmp_path.iterdir())) == 2
    assert not np.array_equal(other.loss, train().loss) or "test" in change


def test_students_of_another_teacher_begin_anew(tmp_path, monkeypatch):
    config, supervision = LESSONS["online"]

    def train(teacher):
        taught = replace(supervision, teacher=teacher)
        return train_student(TRAIN, TEST, config, supervision=taught, folder=tmp_path)

    train(TEACHER)
    for other in (
        replace(TEACHER, version="2"),
        replace(TEACHER, variables={"w": -WEIGHTS["w"]}),
    ):
        assert counted(monkeypatch, lambda other=other: train(other))[1] == 6
    assert counted(monkeypatch, lambda: train(TEACHER))[1] == 0


def test_of_a_teacher_without_a_version_nothing_is_kept(tmp_path):
    """Its predict may be another function under the same name."""
    config, supervision = LESSONS["online"]
    mine = replace(supervision, teacher=replace(TEACHER, version=None))
    train_student(TRAIN, TEST, config, supervision=mine, folder=tmp_path)
    assert not list(tmp_path.iterdir())
