"""What the command line says of its options: flags for Python's names, defaults for None."""

import pytest

from infoutil_jax.app.cli import main
from infoutil_jax.app.flags import flags_of, with_flags
from infoutil_jax.app.verbs.distill import Distill
from infoutil_jax.app.verbs.run import Run
from infoutil_jax.app.verbs.student import TrainStudent
from infoutil_jax.app.verbs.teacher import TrainTeacher

RUN, DISTILL, TEACHER = Run, Distill, TrainTeacher


@pytest.mark.parametrize(
    ("command", "sentence", "said"),
    [
        (DISTILL, "pass overwrite=True to replace it", "pass --overwrite to replace it"),
        (RUN, "leave it out with skip_unreadable=True", "leave it out with --skip-unreadable"),
        (DISTILL, "channels is 0; it should be 1", "--channels is 0; it should be 1"),
        (
            TEACHER,
            "lower early_epochs, or choose early_schedule='constant'",
            "lower --early-epochs, or choose --early-schedule constant",
        ),
        (RUN, "lower early_epochs", "lower --teacher.early-epochs"),
        (
            RUN,
            "batch_size is 0; it must be at least 1",
            "--teacher.batch-size or --student.batch-size is 0; it must be at least 1",
        ),
        (TrainStudent, "seeds_at_once is 0", "--seeds-at-once is 0"),
        # Neither paths nor quoted names nor words of English are options.
        (RUN, "a/batch_size.png and 'batch_size' stay", "a/batch_size.png and 'batch_size' stay"),
        (RUN, "the source has no teacher, seed or pool", "the source has no teacher, seed or pool"),
        (RUN, "class images_of_a is unknown_to us", "class images_of_a is unknown_to us"),
    ],
)
def test_sentences_name_flags(command, sentence, said):
    assert with_flags(sentence, command) == said


@pytest.mark.parametrize("command", [RUN, DISTILL, TEACHER])
def test_every_flag_that_is_named_is_there(command, capsys):
    verb = {Run: "run", Distill: "distill", TrainTeacher: "teacher"}[command]
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    printed = capsys.readouterr().out
    flags = [flag for name, flag in flags_of(command) if name != "source"]
    assert len(flags) > 20 and all(flag in printed for flag in flags)


def test_help_has_groups_a_line_of_each_recipe_and_no_default_of_none(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    printed = capsys.readouterr().out
    assert "default: None" not in " ".join(printed.replace("│", " ").split())
    for group in ("data options", "recipe options", "teacher options", "student options"):
        assert group in printed
    assert "rded: RDED (Sun et al., CVPR 2024)" in printed


def test_of_several_flags_of_one_name_the_typed_one_is_named():
    words = ["run", "digits", "--student.batch-size=0"]
    assert with_flags("batch_size is 0", RUN, words) == "--student.batch-size is 0"


def test_a_wrong_value_is_told_with_its_flag(tmp_path, capsys):
    assert main(["run", "digits", "--workdir", str(tmp_path / "w"), "--channels", "0"]) == 2
    assert "infoutil: --channels is 0; it must be at least 1" in capsys.readouterr().err
