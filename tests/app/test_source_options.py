"""How the command line opens a source: its options, what it says, and images of many bands."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from infoutil_jax.app.cli import main
from infoutil_jax.app.options import SourceOptions, account
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import open_source
from infoutil_jax.training.teacher import load_teachers

CIFAR = Path(__file__).parents[1] / "fixtures/cifar10"


@pytest.fixture
def divided(tmp_path):
    """train/, test/ without labels, val/ and extra/, with a file that is no image."""
    for split in ("train", "val", "extra"):
        shutil.copytree(CIFAR, tmp_path / "set" / split)
    shutil.copytree(CIFAR / "cat", tmp_path / "set/test")
    (tmp_path / "set/train/cat/labels.txt").touch()
    (tmp_path / "set/train/cat/0000.jpg").unlink()
    return f"folder:{tmp_path / 'set'}"


def test_the_splits_that_were_taken_and_their_classes_are_printed(divided, capsys):
    source = SourceOptions(divided).open()
    assert capsys.readouterr().err.splitlines() == [
        "note: splits not taken: extra (10 images), test (5 images without class folders)",
        "note: passed over: 1 .txt",
    ]
    assert account(source).splitlines() == [
        f"{divided}: 9 training and 10 test images of 32x32 pixels, 3 channels, 2 classes",
        "  train on train: cat 4, ship 5",
        "  test on val: cat 5, ship 5",
    ]
    source = SourceOptions(divided, train_split="extra", test_split="train").open()
    assert source.splits == ("extra", "train")


def test_of_many_classes_the_smallest_and_the_largest_are_named(tmp_path):
    for number in range(12):
        (tmp_path / f"set/class{number}").mkdir(parents=True)
        for i in range(4 + (number == 3)):
            np.save(tmp_path / f"set/class{number}/{i}.npy", np.zeros((4, 4), np.uint8))
    lines = account(SourceOptions(f"folder:{tmp_path / 'set'}").open()).splitlines()
    assert lines[1].endswith(": from 3 images of class0 to 4 of class3")
    assert lines[2].endswith(": 1 images of each class")


@pytest.fixture
def satellite(tmp_path):
    """Two classes of images of seven bands and 12 bits, that differ in the last band alone."""
    rng = np.random.default_rng(0)
    for name, brightness in (("dry", 0), ("wet", 2000)):
        (tmp_path / "bands" / name).mkdir(parents=True)
        for i in range(20):
            image = rng.integers(0, 2048, (16, 16, 7), dtype=np.uint16)
            image[..., 6] += brightness
            np.save(tmp_path / f"bands/{name}/{i}.npy", image)
    return f"folder:{tmp_path / 'bands'}"


def test_a_teacher_learns_from_every_band(satellite, tmp_path, capsys):
    out = tmp_path / "teacher"
    small = ["--width", "8", "--epochs", "12", "--early-epochs", "1"]
    command = ["teacher", satellite, "--workdir", str(out), *small]
    assert main([*command, "--value-range", "-48", "4048"]) == 0
    assert "note: values -48 to 4048 become 0 to 255" in capsys.readouterr().err
    teacher = load_teachers(out)["converged"]
    assert teacher.channels == 7
    assert teacher.accuracy == 100


def test_a_wish_that_cannot_be_met_names_its_flag(satellite, divided, tmp_path, capsys):
    out = str(tmp_path / "teacher")
    for spec, flag, values in (
        (divided, "--test-split", ["nowhere"]),
        (divided, "--value-range", ["0", "100"]),
        (divided, "--background", ["nocolour"]),
        (satellite, "--channels", ["8"]),
    ):
        assert main(["teacher", spec, "--workdir", out, flag, *values]) == 2
        assert flag in capsys.readouterr().err


def test_printed_commands_open_the_source_as_it_was_opened(tmp_path, capsys):
    teacher, place = str(tmp_path / "teacher"), str(tmp_path / "set")
    small = ["--width", "4", "--epochs", "1"]
    few = ["--recipe", "rded", "--images-per-class", "1"]

    def done(*words):
        """The words of the command that is printed, and what is said to people."""
        assert main(list(words)) == 0
        said = capsys.readouterr()
        *_, (line,) = ([one] for one in said.out.splitlines() if one.startswith("next: "))
        return shlex.split(line.removeprefix("next: infoutil ").replace("SET", place)), said.err

    asked = ["digits", "--channels", "3", "--split-seed", "3"]
    distill, _ = done("teacher", *asked, "--workdir", teacher, *small, "--early-epochs", "0")
    student, said = done(*distill, *few, "--pool", "10")
    assert "trained on other images" not in said
    source = open_source("digits", seed=3, channels=3).fingerprint()
    assert DistilledDataset.load(place).manifest["source"]["fingerprint"] == source
    assert main([*student, *small, "--seeds", "0"]) == 0
    assert "was not distilled from" not in capsys.readouterr().err
    some = ["--source-id", DistilledDataset.load(place).records[0]["tiles"][0]["source"]]
    told = ["--source", *asked, "--teacher", teacher]
    # What was distilled is found again by the options it was opened with, and by no others.
    shown = ["--picture", str(tmp_path / "origin.png"), "--json", *told[:-2]]
    assert main(["explain", place, "0", *shown]) == 0
    assert json.loads(capsys.readouterr().out)["number"] == 0
    assert main(["explain", place, "0", *shown[:5]]) == 2
    assert "open the source that its manifest names, with the same options" in (
        capsys.readouterr().err
    )
    assert main(["report", place, *told[:-2]]) == 0
    page = (tmp_path / "set-report.html").read_text()
    assert "where the images came from" not in page and "origins are not shown" not in page
    audit, _ = done("forget", place, *some, *told)
    assert audit == ["audit", place, *told]
    # The others are warned of a teacher that may know test images.
    _, said = done("distill", "digits", *told[-2:], "--workdir", str(tmp_path / "other"), *few)
    assert f"the teacher in {teacher} was trained on other images" in said
    stream, _ = done("stream", *asked, *told[-2:], "--workdir", str(tmp_path / "stream"), *few)
    assert stream[2:7] == asked
