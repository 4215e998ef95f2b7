import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from infoutil_jax.errors import InputError
from infoutil_jax.training import checkpoint
from infoutil_jax.training.evaluation import model_logits
from infoutil_jax.training.teacher import Teacher, load_teacher, train_teacher


def digits():
    data = load_digits()
    images = np.round(data.images * 15.9).astype(np.uint8)[..., None]
    labels = data.target.astype(np.int32)
    return images[:1200], labels[:1200], images[1200:], labels[1200:]


OPTIONS = {
    "num_classes": 10,
    "class_names": [str(i) for i in range(10)],
    "width": 16,
    "epochs": 6,
    "early_epochs": 2,
    "early_schedule": "same_run",
    "batch_size": 64,
    "flip": False,
}


def train(workdir, data=None, **options):
    return train_teacher(*(data or digits()), workdir=workdir, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("teacher") / "run"
    return workdir, train(workdir)


def logits(teacher, images):
    return model_logits(teacher.predict, teacher.variables, images, teacher.mean, teacher.std)


def test_digits_are_learnt(trained):
    _, teachers = trained
    assert list(teachers) == ["early", "converged"]
    assert teachers["converged"].accuracy > 93
    assert teachers["early"].accuracy < teachers["converged"].accuracy
    _, _, images, labels = digits()
    right = logits(teachers["converged"], images).argmax(1) == labels
    assert 100 * right.mean() == pytest.approx(teachers["converged"].accuracy)


def test_loaded_is_what_was_trained(trained):
    workdir, teachers = trained
    for stage, teacher in teachers.items():
        loaded = load_teacher(workdir, stage)
        assert loaded.digest() == teacher.digest() and len(loaded.digest()) == 64
        assert loaded.predict == teacher.predict
        assert (loaded.stage, loaded.image_size, loaded.channels) == (stage, (8, 8), 1)
        assert loaded.class_names == tuple("0123456789")
    assert teachers["early"].digest() != teachers["converged"].digest()


def test_killed_training_goes_on_to_the_same_bytes(trained, tmp_path, monkeypatch):
    _, teachers = trained
    save = checkpoint.ocp.CheckpointManager.save

    def dying(self, step, *args, **kwargs):
        done = save(self, step, *args, **kwargs)
        if step == 3:
            raise KeyboardInterrupt
        return done

    workdir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.ocp.CheckpointManager, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            train(workdir)
    with pytest.raises(InputError, match=r"no teacher of the stage 'converged'.* early"):
        load_teacher(workdir)
    steps = []

    def counting(self, step, *args, **kwargs):
        steps.append(step)
        return save(self, step, *args, **kwargs)

    monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "save", counting)
    resumed = train(workdir)
    assert steps == [4, 5, 6]
    for stage, teacher in resumed.items():
        assert teacher.digest() == teachers[stage].digest()
    train(workdir)
    assert steps == [4, 5, 6]  # finished: nothing is trained again


def test_early_teacher_by_its_own_run(tmp_path):
    teachers = train(tmp_path, early_schedule="constant", epochs=1, early_epochs=3)
    assert teachers["early"].accuracy > 20 and teachers["converged"].accuracy > 20
    assert teachers["early"].digest() != teachers["converged"].digest()


def test_another_run_is_not_overwritten(trained, tmp_path):
    workdir, _ = trained
    with pytest.raises(InputError, match="trained with seed = 0, not 1"):
        train(workdir, seed=1)
    images, labels, test_images, test_labels = digits()
    changed = images.copy()
    changed[7, 3, 3, 0] ^= 1
    with pytest.raises(InputError, match="trained with data = "):
        train(workdir, (changed, labels, test_images, test_labels))
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"something else than a teacher \(thesis.tex\)"):
        train(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_unreadable_directories_are_told(trained, tmp_path):
    with pytest.raises(InputError, match="holds no teacher"):
        load_teacher(tmp_path / "nowhere")
    with pytest.raises(InputError, match="'middle': finished stages are converged, early"):
        load_teacher(trained[0], "middle")
    copy = tmp_path / "copy"
    shutil.copytree(trained[0], copy)
    shutil.rmtree(copy / "stages" / "early")
    with pytest.raises(InputError, match=r"early teacher in .* cannot be read"):
        load_teacher(copy, "early")
    (copy / "config.json").write_text("{")
    with pytest.raises(InputError, match="not a teacher's configuration"):
        load_teacher(copy)
    (copy / "config.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(InputError, match="format 2"):
        load_teacher(copy)


def test_bad_arguments_are_told_before_anything_is_written(tmp_path):
    images, labels, test_images, test_labels = digits()
    wrong = labels.copy()
    wrong[5] = 10
    workdir = tmp_path / "run"
    with pytest.raises(InputError, match=r"training label 10 at index 5 .* 0 to 9"):
        train(workdir, (images, wrong, test_images, test_labels))
    with pytest.raises(InputError, match="too small for convnet4"):
        train(workdir, backbone="convnet4")
    with pytest.raises(InputError, match="early teacher is to be epoch 6"):
        train(workdir, early_epochs=6)
    with pytest.raises(InputError, match="3 class names were given for 10"):
        train(workdir, class_names=["a", "b", "c"])
    assert not workdir.exists()


def linear(variables, images):
    return images.reshape(len(images), -1) @ variables["w"]


def test_any_function_can_be_a_teacher():
    weights = np.asarray(jax.random.normal(jax.random.key(0), (64, 10)))
    teacher = Teacher(linear, {"w": weights}, mean=(0.5,), std=(0.25,), image_size=(8, 8))
    images = digits()[0][:70]
    expected = ((images.reshape(70, -1) / 255 - 0.5) / 0.25) @ weights
    np.testing.assert_allclose(logits(teacher, images), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(logits(teacher, images)[9:12], logits(teacher, images[9:12]))
    for value in (np.nan, np.inf):
        broken = weights.copy()
        broken[3, 4] = value
        with pytest.raises(InputError, match=r"weight in \['w'\] that is NaN or infinite"):
            replace(teacher, variables={"w": broken})
    with pytest.raises(InputError, match="2 means and 1 standard"):
        replace(teacher, mean=(0.5, 0.5))


def test_digest_sees_names_shapes_and_values():
    teacher = Teacher(linear, {"w": np.ones((4, 6), np.float32)}, mean=(0.5,), std=(0.25,))
    others = [
        {"v": np.ones((4, 6), np.float32)},
        {"w": np.ones((6, 4), np.float32)},
        {"w": np.ones((4, 6), np.float32) * (1 + 1e-6)},
    ]
    digests = {replace(teacher, variables=variables).digest() for variables in others}
    assert len(digests | {teacher.digest()}) == 4
    same = replace(teacher, variables={"w": jax.numpy.ones((4, 6))})
    assert same.digest() == teacher.digest()
