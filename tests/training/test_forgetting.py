"""Forgetting events: counted by hand, by a teacher's training, and spent on a coreset."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_digits

from infoutil_jax.errors import InputError
from infoutil_jax.training import checkpoint, forgetting
from infoutil_jax.training.config import TeacherConfig
from infoutil_jax.training.forgetting import load_forgetting
from infoutil_jax.training.teacher import load_teacher
from infoutil_jax.training.train_teacher import train_teacher

EPOCHS = 5


def train(workdir):
    data = load_digits()
    images = np.round(data.images * 15.9).astype(np.uint8)[..., None]
    labels = data.target.astype(np.int32)
    config = TeacherConfig(
        width=8,
        epochs=EPOCHS,
        early_epochs=2,
        early_schedule="same_run",
        batch_size=32,
        flip=False,
    )
    train, test = (images[:330], labels[:330]), (images[330:400], labels[330:400])
    return train_teacher(train, test, config, workdir=workdir, classes=10)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A teacher, and the (rows, right) that each epoch was counted with."""
    workdir, calls, count = tmp_path_factory.mktemp("teacher") / "run", [], forgetting.count

    def recording(state, rows, right):
        calls.append((np.asarray(rows), np.asarray(right)))
        return count(state, rows, right)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forgetting, "count", recording)
        train(workdir)
    return workdir, calls


@pytest.mark.parametrize(
    ("sequence", "events"),
    [
        ("111111", 0),
        ("000111", 0),
        ("101010", 3),
        ("0110100", 2),
        ("10", 1),
        ("1", 0),
        ("0000", 99),
        ("", 99),
    ],
)
def test_events_of_a_sequence_of_correctness(sequence, events):
    state = forgetting.start(3)
    for right in sequence:
        state = forgetting.count(state, np.array([1]), np.array([right == "1"]))
    assert forgetting.marked(state, 99).tolist() == [99, events, 99]
    assert state.events.dtype == np.int32


def test_counting_leaves_its_argument_alone_and_takes_whole_epochs():
    first = forgetting.count(forgetting.start(4), np.array([[3, 0], [1, 2]]), np.ones((2, 2), bool))
    right = np.array([[True, False], [False, True]])
    second = forgetting.count(first, np.array([[0, 1], [2, 3]]), right)
    assert first.events.tolist() == [0, 0, 0, 0] and first.correct.all()
    assert second.events.tolist() == [0, 1, 1, 0]
    assert second.correct.tolist() == [True, False, False, True]


def test_a_teachers_events_are_those_of_its_mini_batches(recorded):
    workdir, calls = recorded
    assert len(calls) == EPOCHS
    histories = {row: [] for row in range(330)}
    for rows, right in calls:
        assert rows.shape == right.shape == (10, 32)  # ten images are not seen in this epoch
        for row, one in zip(rows.ravel(), right.ravel(), strict=True):
            histories[int(row)].append(bool(one))
    expected = [
        sum(a and not b for a, b in pairwise(h)) if any(h) else EPOCHS for h in histories.values()
    ]
    events = load_forgetting(workdir)
    assert events.dtype == np.int32
    np.testing.assert_array_equal(events, expected)
    assert {0, 1, EPOCHS} <= set(events.tolist())  # the test would be idle otherwise


def test_correctness_improves_as_the_teacher_learns(recorded):
    shares = [right.mean() for _, right in recorded[1]]
    assert shares[-1] > shares[0] + 0.2


def test_killed_training_goes_on_to_the_same_events(recorded, tmp_path, monkeypatch):
    save = checkpoint.ocp.CheckpointManager.save

    def dying(self, step, *args, **kwargs):
        save(self, step, *args, **kwargs)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.CheckpointManager, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    with pytest.raises(InputError, match="is not finished"):
        load_forgetting(tmp_path)
    train(tmp_path)
    events = [(folder / forgetting.FILE).read_bytes() for folder in (tmp_path, recorded[0])]
    assert events[0] == events[1]
    records = [
        json.loads((folder / "stages" / "converged.json").read_text())
        for folder in (tmp_path, recorded[0])
    ]
    for record in records:  # Orbax writes times into its files
        assert record.pop("files") and record.pop("sha256")
    assert records[0] == records[1]
    assert load_teacher(tmp_path).digest() == load_teacher(recorded[0]).digest()


def test_a_run_of_another_version_is_not_gone_on_with(tmp_path, monkeypatch):
    def older(self, step, *, args):
        state, _ = args.item
        save(self, step, args=checkpoint.ocp.args.StandardSave(state))
        raise KeyboardInterrupt

    save = checkpoint.ocp.CheckpointManager.save
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.CheckpointManager, "save", older)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path)
    with pytest.raises(InputError, match="saved by another version"):
        train(tmp_path)


def test_directories_without_events_are_told(recorded, tmp_path):
    with pytest.raises(InputError, match="holds no teacher"):
        load_forgetting(tmp_path / "nowhere")
    copy = tmp_path / "copy"
    shutil.copytree(recorded[0], copy)
    (copy / forgetting.FILE).write_bytes(b"{")
    with pytest.raises(InputError, match="cannot be read"):
        load_forgetting(copy)
    (copy / forgetting.FILE).unlink()
    with pytest.raises(InputError, match="no forgetting events: its weights were given"):
        load_forgetting(copy)
    load_teacher(copy)  # which is as good as ever
