"""The command line as a user meets it: what it prints, what it leaves, how it says no."""

import dataclasses
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoutil_jax.app.cli import main
from infoutil_jax.app.verbs.run import default_workdir
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import open_source
from infoutil_jax.errors import InputError
from infoutil_jax.refine import REFINERS, infoutil_refined
from infoutil_jax.refine.recipes import RECIPES

PHOTOS = Path(__file__).parents[1] / "fixtures" / "imagenette" / "train"
TINY_TEACHER = ["--teacher.width", "8", "--teacher.epochs", "2", "--teacher.early-epochs", "1"]
TINY_STUDENT = ["--student.width", "8", "--student.epochs", "3", "--student.seeds", "0", "1"]


@pytest.fixture
def photos(tmp_path):
    """Class subfolders of real photographs, of mixed sizes, formats and modes."""
    root = tmp_path / "pictures"
    for folder in sorted(PHOTOS.iterdir()):
        (root / folder.name).mkdir(parents=True)
        for i, path in enumerate(sorted(folder.iterdir())):
            image = Image.open(path)
            for j, suffix in enumerate((".jpg", ".png", ".webp")):
                size = (48 + 16 * j, 40 + 8 * i)
                mode = "L" if (i, j) == (0, 1) else "RGB"
                image.convert(mode).resize(size).save(root / folder.name / f"{i}{j}{suffix}")
    return root


def refused(arguments, capsys):
    """Exit code 2 and one sentence; returns it."""
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    message = [line for line in lines if line.startswith("infoutil: ")]
    assert len(message) == 1
    return message[0]


def test_a_folder_of_photographs_takes_one_command(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--images-per-class", "1", *TINY_TEACHER, *TINY_STUDENT]
    assert main(["run", f"folder:{photos}", *small]) == 0
    printed = capsys.readouterr().out
    assert "3 classes" in printed and "| student, infoutil" in printed
    assert "of which the largest class is" in printed and "at the crop's own class" in printed
    (workdir,) = (tmp_path / "runs").glob("pictures-*")
    assert {p.name for p in workdir.iterdir()} == {
        "teacher",
        "distilled",
        "distilled.scoring.json",
        "random",
        "random.scoring.json",
        "overview.png",
        "summary.json",
    }
    summary = json.loads((workdir / "summary.json").read_text())
    assert len(summary["student"]["top1"]) == 2
    assert summary["image_size"] == [32, 32]
    assert np.asarray(Image.open(workdir / "overview.png")).std() > 0
    assert main(["verify", str(workdir / "distilled")]) == 0
    assert "every checksum holds" in capsys.readouterr().out
    # At 1 image a class each of four tiles is an image to students.
    assert "tiles: 4 an image, each an image of its own to students" in printed
    mine, by_chance = (DistilledDataset.load(workdir / one) for one in ("distilled", "random"))
    assert mine.soft_labels.shape[1] == 4 and by_chance.soft_labels.shape[1] == 1
    assert mine.manifest["training"]["partition"] and mine.manifest["recipe"]["partition"]
    assert "partition" not in by_chance.manifest["training"]


def test_random_images_are_learnt_from_as_a_refined_set_asks(photos, tmp_path, capsys, monkeypatch):
    few = dataclasses.replace(REFINERS["frepo"], steps=2, batch_size=8)
    monkeypatch.setitem(RECIPES, "infoutil_refined", partial(infoutil_refined, refiner=few))
    work = ["--workdir", str(tmp_path / "w"), "--images-per-class", "1"]
    asked = ["run", f"folder:{photos}", *work, "--recipe", "infoutil_refined"]
    assert main([*asked, *TINY_TEACHER, *TINY_STUDENT]) == 0
    printed = capsys.readouterr().out
    assert "students learn stored labels and see no mixed images" in printed
    assert "the labels were learnt with the pixels" in printed
    summary = json.loads((tmp_path / "w" / "summary.json").read_text())
    assert summary["random"] and summary["student_options"]["labels"] == "stored"
    assert summary["student_options"]["cutmix"] is False
    assert summary["student_options"]["partition"] is True, "as the set asks"
    alone = ["student", str(tmp_path / "w/distilled"), f"folder:{photos}"]  # needs no teacher
    assert main([*alone, "--width", "8", "--epochs", "2"]) == 0


def test_a_set_that_is_there_is_kept_or_told(photos, tmp_path, capsys):
    work = ["--workdir", str(tmp_path / "w"), "--images-per-class", "1", "--recipe", "random"]
    asked = ["run", f"folder:{photos}", *work, *TINY_TEACHER, *TINY_STUDENT]
    assert main(asked) == 0
    manifest = tmp_path / "w/distilled/manifest.json"
    before = manifest.read_bytes(), manifest.stat().st_mtime_ns
    capsys.readouterr()
    assert main(asked) == 0
    assert "is there already, made by the same arguments" in capsys.readouterr().err
    assert (manifest.read_bytes(), manifest.stat().st_mtime_ns) == before
    sentence = refused([*asked, "--seed", "1"], capsys)
    assert "another seed" in sentence and "--overwrite" in sentence and "--workdir" in sentence
    assert manifest.read_bytes() == before[0]
    assert main([*asked, "--recipe", "rded", "--overwrite"]) == 0
    assert json.loads(manifest.read_text())["recipe"]["name"] == "rded"


def test_a_place_for_random_images_that_holds_something_else_is_told_first(
    photos, tmp_path, capsys
):
    (tmp_path / "w" / "random").mkdir(parents=True)
    (tmp_path / "w" / "random" / "mine.txt").touch()
    asked = ["run", f"folder:{photos}", "--workdir", str(tmp_path / "w"), "--images-per-class", "1"]
    assert "holds something else" in refused([*asked, *TINY_TEACHER, *TINY_STUDENT], capsys)
    assert not (tmp_path / "w" / "teacher").exists()


def test_folders_of_one_name_have_two_workdirs(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "elsewhere" / photos.name)
    here, there = (
        default_workdir(open_source(f"folder:{path}", image_size=32))
        for path in (photos, tmp_path / "elsewhere" / photos.name)
    )
    assert here != there and here.name.startswith("pictures-")
    assert default_workdir(open_source("digits")) == Path("runs/digits")


def test_every_verb_takes_the_size_that_the_teacher_was_trained_at(tmp_path, capsys):
    """Photographs of 96 pixels: too large for a CPU, so 64 without a flag, on every verb."""
    source = tmp_path / "large"
    for folder in sorted(PHOTOS.iterdir())[:2]:
        (source / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir()):
            Image.open(path).convert("RGB").resize((96, 96)).save(source / folder.name / path.name)
    spec, teacher, out = f"folder:{source}", str(tmp_path / "teacher"), str(tmp_path / "set")
    tiny = [flag.replace("--teacher.", "--") for flag in TINY_TEACHER]
    assert main(["teacher", spec, "--workdir", teacher, "--image-size", "48", *tiny]) == 0
    assert "of which the largest class is 50.0%" in capsys.readouterr().out
    asked = ["distill", spec, "--teacher", teacher, "--workdir", out, "--images-per-class", "1"]
    sentence = refused([*asked, "--image-size", "32"], capsys)
    assert "48" in sentence and "--image-size" in sentence
    assert main([*asked, "--recipe", "random"]) == 0
    assert "48x48 pixels" in capsys.readouterr().out
    assert main(["student", out, spec, "--teacher", teacher, "--width", "8", "--epochs", "2"]) == 0
    assert "48x48 pixels" in capsys.readouterr().out


def test_verbs_one_by_one(teacher_dir, tmp_path, capsys):
    out = str(tmp_path / "set")
    common = ["--teacher", str(teacher_dir)]
    distill = ["distill", "digits", *common, "--workdir", out, "--images-per-class", "2"]
    assert main([*distill, "--recipe", "rded", "--pool", "10"]) == 0
    assert (tmp_path / "set.png").exists()
    tiny = ["--width", "8", "--epochs", "3"]
    assert main(["student", out, "digits", *common, *tiny]) == 0
    assert main(["student", out, "digits", "--labels", "stored", *tiny]) == 0
    assert "±" in capsys.readouterr().out
    assert "made with another recipe" in refused(distill, capsys)
    manifest = tmp_path / "set" / "manifest.json"
    digest = json.loads(manifest.read_text())["sha256"]
    before = manifest.stat().st_mtime_ns
    (tmp_path / "set.png").unlink()  # as where a run was killed before it was drawn
    assert main([*distill, "--recipe", "rded", "--pool", "10"]) == 0
    said = capsys.readouterr()
    assert f"digest: {digest}" in said.out and "is there already" in said.err
    assert (tmp_path / "set.png").exists() and manifest.stat().st_mtime_ns == before
    assert "--teacher" in refused(["student", out, "digits", *tiny], capsys)


@pytest.mark.parametrize(
    ("recipe", "stage", "by_the_labeller"),
    [
        ("rded", [], False),
        ("infoutil_kernel", [], True),
        ("infoutil_kernel", ["--scoring-stage", "converged"], False),
    ],
)
def test_a_recipe_is_asked_of_the_teacher_it_is_made_for(
    recipe, stage, by_the_labeller, teacher_dir, tmp_path
):
    """At two images a class the early teacher labels; the paper's converged one scores."""
    asked = [*distill_to(tmp_path / "set", "digits", teacher_dir), "--recipe", recipe, *stage]
    assert main([*asked, "--images-per-class", "2", "--pool", "10"]) == 0
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    same = manifest["teacher"]["digest"] == manifest["label_teacher"]["digest"]
    assert same == by_the_labeller


def test_the_teacher_that_labelled_a_set_labels_its_views(teacher_dir, tmp_path, monkeypatch):
    asked = distill_to(tmp_path / "set", "digits", teacher_dir)
    options = ["--recipe", "random", "--images-per-class", "2", "--pool", "10"]
    assert main([*asked, *options, "--label-stage", "converged"]) == 0
    stages = []

    def train_students(distilled, source, teacher, *others, **options):
        stages.append(teacher.stage)
        raise InputError("seen")

    monkeypatch.setattr("infoutil_jax.app.students.train_students", train_students)
    again = ["student", str(tmp_path / "set"), "digits", "--teacher", str(teacher_dir)]
    for choice in ([], ["--label-stage", "early"]):
        assert main([*again, *choice]) == 2
    assert stages == ["converged", "early"]


def test_tampering_is_found(teacher_dir, tmp_path, capsys):
    out = tmp_path / "set"
    arguments = ["--workdir", str(out), "--images-per-class", "1", "--recipe", "random"]
    assert main(["distill", "digits", "--teacher", str(teacher_dir), *arguments]) == 0
    victim = sorted(out.glob("images/*/*.png"))[0]
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(victim)
    assert victim.name in refused(["verify", str(out)], capsys)


def distill_to(out, source, teacher_dir):
    return ["distill", source, "--teacher", str(teacher_dir), "--workdir", str(out)]


def test_a_licence_is_written_down_and_another_one_is_another_set(teacher_dir, tmp_path, capsys):
    out = tmp_path / "set"
    asked = [*distill_to(out, "digits", teacher_dir), "--recipe", "random", "--pool", "10"]
    assert main([*asked, "--licence", "cc-by-4.0"]) == 0
    assert json.loads((out / "manifest.json").read_text())["licence"] == "cc-by-4.0"
    assert "| Licence | cc-by-4.0 |" in (out / "README.md").read_text()
    assert "another licence" in refused(asked, capsys)
    assert main([*asked, "--licence", "cc-by-4.0"]) == 0


def test_missing_things_are_named(teacher_dir, tmp_path, capsys):
    out = tmp_path / "set"
    assert "nowhere" in refused(distill_to(out, "folder:nowhere", teacher_dir), capsys)
    assert "folder:PATH" in refused(distill_to(out, "flickr", teacher_dir), capsys)
    assert "no-teacher" in refused(distill_to(out, "digits", tmp_path / "no-teacher"), capsys)
    assert "no-set" in refused(["verify", str(tmp_path / "no-set")], capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_of_another_kind_is_refused(photos, teacher_dir, tmp_path, capsys):
    out = tmp_path / "set"
    asked = [*distill_to(out, f"folder:{photos}", teacher_dir), "--images-per-class", "1"]
    assert "--channels 1" in refused([*asked, "--channels", "3"], capsys)
    assert not out.exists()


def test_mixed_sizes_want_a_target_size_in_the_library(photos):
    from infoutil_jax.data.sources import open_source
    from infoutil_jax.errors import InputError

    with pytest.raises(InputError, match="image_size"):
        open_source(f"folder:{photos}")


def test_a_truncated_image_is_named_or_skipped(photos, tmp_path, capsys):
    victim = photos / "church" / "00.jpg"
    victim.write_bytes(victim.read_bytes()[:200])
    out = tmp_path / "teacher"
    teach = ["teacher", f"folder:{photos}", "--workdir", str(out), "--width", "8", "--epochs", "2"]
    assert "church/00.jpg" in refused(teach, capsys)
    assert not out.exists()
    assert main([*teach, "--early-epochs", "1", "--skip-unreadable"]) == 0
    assert "skipped, unreadable: " in (captured := capsys.readouterr()).err
    assert "church/00.jpg" in captured.err


def test_a_class_that_is_too_small_is_named(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(photos / "church")
    (photos / "church").mkdir()
    Image.new("RGB", (40, 40)).save(photos / "church" / "only.png")
    assert "church" in refused(["run", f"folder:{photos}"], capsys)
    assert not (tmp_path / "runs").exists()


def test_a_workdir_that_holds_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "thesis.txt" in refused(["teacher", "digits", "--workdir", str(tmp_path)], capsys)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_budget_below_the_strategys_need_is_refused_with_the_need(teacher_dir, tmp_path, capsys):
    out = tmp_path / "set"
    arguments = ["--recipe", "infoutil_paper", "--budget", "10"]
    sentence = refused([*distill_to(out, "digits", teacher_dir), *arguments], capsys)
    assert "10" in sentence and "32" in sentence
    assert not out.exists()


def test_an_option_that_the_recipe_lacks_is_refused(teacher_dir, tmp_path, capsys):
    arguments = ["--recipe", "random", "--alpha", "1"]
    command = [*distill_to(tmp_path / "set", "digits", teacher_dir), *arguments]
    assert "--alpha" in refused(command, capsys)


@pytest.mark.parametrize(
    "asked",
    [
        ["run", "--recipe", "infoutl"],
        ["compare", "--recipes", "random", "infoutl"],
        ["distill", "--recipe", "infoutl", "--teacher", "nowhere", "--workdir", "set"],
    ],
    ids=lambda asked: asked[0],
)
def test_a_misspelt_recipe_is_told_before_anything_is_opened(asked, capsys):
    verb, *options = asked
    sentence = refused([verb, "folder:nowhere", *options], capsys)
    assert "unknown recipe 'infoutl' (did you mean infoutil?)" in sentence


@pytest.mark.parametrize("verb", ["", "run", "teacher", "distill", "student", "verify"])
def test_help_reads(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*verb.split(), "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "infoutil" in printed
    if verb == "distill":
        assert "--images-per-class" in printed and "--recipe" in printed


def test_the_installed_command_exits_with_2_and_no_traceback():
    command = [Path(sys.executable).with_name("infoutil"), "verify", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("infoutil: ")


def test_a_reader_that_goes_early_is_no_fault():
    """As in `infoutil --help | head -1`: no traceback, and a shell's status for it."""
    call = [sys.executable, "-m", "infoutil_jax", "--help"]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b"" and process.wait(60) == 141
