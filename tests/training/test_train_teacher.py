"""Training a teacher: early and converged, killed and resumed, and from torchvision's weights."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from sklearn.datasets import load_digits

from infoutil_jax import models
from infoutil_jax.data.streamed import Streamed
from infoutil_jax.errors import InputError
from infoutil_jax.models.torch_weights import IMAGENET, load_torchvision, to_torchvision
from infoutil_jax.training import checkpoint
from infoutil_jax.training.config import TeacherConfig
from infoutil_jax.training.evaluation import model_logits
from infoutil_jax.training.forgetting import load_forgetting
from infoutil_jax.training.teacher import load_teacher, load_teachers
from infoutil_jax.training.train_teacher import train_teacher


def digits():
    data = load_digits()
    images = np.round(data.images * 15.9).astype(np.uint8)[..., None]
    labels = data.target.astype(np.int32)
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def few(classes=10):
    """What is enough where nothing has to be learnt of all digits."""
    (images, labels), (test_images, test_labels) = digits()
    kept, tested = np.flatnonzero(labels < classes)[:320], np.flatnonzero(test_labels < classes)
    tested = tested[:50]
    return (images[kept], labels[kept]), (test_images[tested], test_labels[tested])


NAMES = tuple("0123456789")
CONFIG = TeacherConfig(
    width=16, epochs=6, early_epochs=2, early_schedule="same_run", batch_size=64, flip=False
)


def train(workdir, data=None, *, classes=NAMES, seed=0, **changes):
    config = replace(CONFIG, **changes)
    return train_teacher(*(data or digits()), config, workdir=workdir, classes=classes, seed=seed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("teacher") / "run"
    return workdir, train(workdir)


def test_digits_are_learnt(trained):
    _, teachers = trained
    assert list(teachers) == ["early", "converged"]
    assert teachers["converged"].accuracy > 93
    assert teachers["early"].accuracy < teachers["converged"].accuracy
    images, labels = digits()[1]
    right = model_logits(teachers["converged"], images).argmax(1) == labels
    assert 100 * right.mean() == pytest.approx(teachers["converged"].accuracy)


def test_images_from_disk_make_the_same_teacher_and_find_it(trained, tmp_path, monkeypatch):
    """In slices of three steps, by three batches of evaluation."""
    workdir, kept = trained
    monkeypatch.setattr("infoutil_jax.training.fit.STREAMED_BYTES", 3 * 64 * 8 * 8)
    (images, labels), (test_images, test_labels) = digits()

    def from_disk(pixels):
        return Streamed(pixels.__getitem__, np.arange(len(pixels)), pixels.shape[1:], 2)

    data = (from_disk(images), labels), (from_disk(test_images), test_labels)
    found = train(workdir, data)
    assert found["converged"].digest() == kept["converged"].digest()
    made = train(tmp_path / "made", data)
    for stage, teacher in kept.items():
        assert made[stage].accuracy == pytest.approx(teacher.accuracy, abs=0.5)
        assert made[stage].known == pytest.approx(teacher.known, abs=0.5)
    wanted, got = (model_logits(of["early"], images[:64]) for of in (kept, made))
    np.testing.assert_allclose(got, wanted, atol=0.05)
    events = [load_forgetting(folder) for folder in (workdir, tmp_path / "made")]
    assert np.mean(events[0] == events[1]) > 0.95


def test_a_teacher_tells_its_architecture_until_predict_is_replaced(trained):
    teacher = trained[1]["converged"]
    options = {"norm": "batch", "width": 16}
    size = {"num_classes": 10, "image_size": (8, 8), "channels": 1}
    assert teacher.architecture == models.Architecture.of("convnet3", **size, **options)
    assert teacher.is_backbone()
    assert not replace(teacher, predict=lambda v, x: teacher.predict(v, x)).is_backbone()


def test_loaded_is_what_was_trained(trained):
    workdir, teachers = trained
    for stage, teacher in teachers.items():
        loaded = load_teacher(workdir, stage)
        assert loaded.digest() == teacher.digest() and len(loaded.digest()) == 64
        assert loaded.predict == teacher.predict
        assert (loaded.stage, loaded.image_size, loaded.channels) == (stage, (8, 8), 1)
        assert loaded.class_names == NAMES
        assert loaded.is_backbone()
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


def test_a_teacher_of_another_machine_is_known_by_its_data(trained):
    # Summed in another order, a measured mean differs in its last digits and in nothing else.
    workdir, teachers = trained
    mean, std = (teachers["converged"].mean, teachers["converged"].std)
    nearly = tuple(float(np.nextafter(value, 1)) for value in mean)
    again = train(workdir, mean=nearly, std=std)
    assert again["converged"].digest() == teachers["converged"].digest()
    with pytest.raises(InputError, match="trained with mean = "):
        train(workdir, mean=tuple(value + 1e-6 for value in nearly), std=std)


def test_another_run_is_not_overwritten(trained, tmp_path):
    workdir, _ = trained
    with pytest.raises(InputError, match="trained with seed = 0, not 1"):
        train(workdir, seed=1)
    (images, labels), test = digits()
    changed = images.copy()
    changed[7, 3, 3, 0] ^= 1
    with pytest.raises(InputError, match="trained with data = "):
        train(workdir, ((changed, labels), test))
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
    (images, labels), test = digits()
    wrong = labels.copy()
    wrong[5] = 10
    workdir = tmp_path / "run"
    with pytest.raises(InputError, match=r"training label 10 at index 5 .* 0 to 9"):
        train(workdir, ((images, wrong), test))
    with pytest.raises(InputError, match="too small for convnet4"):
        train(workdir, backbone="convnet4")
    with pytest.raises(InputError, match="early teacher is to be epoch 6"):
        train(workdir, early_epochs=6)
    with pytest.raises(InputError, match=r"training label \d at index \d .* 0 to 2"):
        train(workdir, classes=["a", "b", "c"])
    for name in ("epochs", "batch_size"):
        with pytest.raises(InputError, match=f"{name} is 0; it must be at least 1"):
            train(workdir, **{name: 0})
    for statistics in ({"mean": (0.5,) * 3}, {"std": (0.5,) * 3}, {"std": (0.0,)}):
        with pytest.raises(InputError, match=r"one of each per channel|must be above 0"):
            train(workdir, **statistics)
    assert not workdir.exists()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A ResNet-18 of width 8 for ten classes of grey images, in torchvision's format."""
    module = models.create(
        "resnet18", num_classes=10, image_size=8, channels=1, width=8, rngs=nnx.Rngs(1)
    )
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    safetensors.numpy.save_file(to_torchvision(module), path)
    return path


def from_weights(workdir, weights, data=None, **options):
    chosen = {"epochs": 1, "early_epochs": 0, "width": None, "backbone": "resnet18", **options}
    return train(workdir, data, weights=weights, **chosen)


def test_weights_are_the_converged_teacher_as_they_are(weights, tmp_path):
    teachers = from_weights(tmp_path / "run", weights, epochs=0)
    assert list(teachers) == list(load_teachers(tmp_path / "run")) == ["converged"]
    predict, variables = models.as_predict(load_torchvision("resnet18", weights, channels=1))
    for got, wanted in zip(
        jax.tree.leaves(teachers["converged"].variables), jax.tree.leaves(variables), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
    assert teachers["converged"].predict == predict
    images, labels = digits()[1]
    right = model_logits(teachers["converged"], images).argmax(1) == labels
    assert 100 * right.mean() == pytest.approx(teachers["converged"].accuracy)
    with pytest.raises(InputError, match="no forgetting events: its weights were given"):
        load_forgetting(tmp_path / "run")


def test_fine_tuning_goes_on_from_the_weights(weights, tmp_path):
    """With a rate of nearly nothing the trunk stays where it was; the new classifier is new."""
    data, options = few(3), {"classes": 3}
    with pytest.raises(InputError, match=r"tells 10 classes apart and the data has 3"):
        from_weights(tmp_path / "run", weights, data, epochs=0, **options)
    still = from_weights(
        tmp_path / "still", weights, data, learning_rate=1e-12, weight_decay=0.0, **options
    )["converged"]
    started = models.as_predict(load_torchvision("resnet18", weights, channels=1))[1]["params"]
    trained = still.variables["params"]
    np.testing.assert_allclose(trained["conv1"]["kernel"], started["conv1"]["kernel"], atol=1e-6)
    assert trained["fc"]["kernel"].shape == (64, 3)
    options |= {"epochs": 8, "learning_rate": 0.1}
    assert from_weights(tmp_path / "moved", weights, data, **options)["converged"].accuracy > 90


def test_the_early_teacher_starts_from_scratch_all_the_same(weights, tmp_path):
    options = {"early_schedule": "constant", "early_epochs": 1, "early_learning_rate": 0.0}
    options |= {"epochs": 0, "weight_decay": 0.0}
    early = from_weights(tmp_path / "run", weights, few(), **options)["early"]
    fresh = models.create(
        "resnet18", num_classes=10, image_size=8, channels=1, width=8, rngs=nnx.Rngs(0)
    )
    kernel = early.variables["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, fresh.conv1.kernel[...])


def test_colour_images_come_normalised_as_torchvision_has_them(tmp_path):
    module = models.create("resnet18", num_classes=10, image_size=8, width=8, rngs=nnx.Rngs(1))
    path = tmp_path / "resnet18.safetensors"
    safetensors.numpy.save_file(to_torchvision(module), path)
    (images, labels), (test_images, test_labels) = digits()
    colour = ((images.repeat(3, -1), labels), (test_images.repeat(3, -1), test_labels))
    teacher = from_weights(tmp_path / "run", path, colour, epochs=0)["converged"]
    assert (teacher.mean, teacher.std) == IMAGENET


def test_weights_that_do_not_fit_are_told_before_anything_is_written(weights, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(InputError, match=r"is no resnet50 of these options: .* missing"):
        from_weights(workdir, weights, backbone="resnet50")
    with pytest.raises(InputError, match="does not exist"):
        from_weights(workdir, tmp_path / "none.pth")
    with pytest.raises(InputError, match="at least 1"):
        train(workdir, epochs=0)
    assert not workdir.exists()
    from_weights(workdir, weights, few())
    with pytest.raises(InputError, match=r"trained with weights = '\w+', not None"):
        from_weights(workdir, None, few(), width=8, stem="cifar", learning_rate=0.005)


def test_a_teacher_that_sees_turned_images_says_so_and_is_another_one(tmp_path):
    """A digit on its side is none, so that this shows in weights only; others keep their record."""
    plain, turned = (
        train(tmp_path / name, few(), epochs=2, early_epochs=1, turn=turn)["converged"]
        for name, turn in (("plain", False), ("turned", True))
    )
    said = [
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("plain", "turned")
    ]
    assert "turn" not in said[0] and said[1] == said[0] | {"turn": True}
    assert plain.digest() != turned.digest()
    assert plain.flipped is turned.flipped is said[0]["flip"]
    assert (plain.turned, turned.turned) == (False, True)
    for name, turn in (("plain", True), ("turned", False)):
        with pytest.raises(InputError, match=f"trained with turn = {not turn}, not {turn}"):
            train(tmp_path / name, few(), epochs=2, early_epochs=1, turn=turn)
