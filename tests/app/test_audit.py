"""Is a set what its recipe makes of its source and teachers? If not, what differs, and where?"""

import copy
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from infoutil_jax.app.cli import main
from infoutil_jax.app.governance import audit
from infoutil_jax.app.governance.again import made_with
from infoutil_jax.app.governance.recalled import recalled, said
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill, sre2l
from infoutil_jax.errors import InputError
from infoutil_jax.method import recipes
from infoutil_jax.method.selection import TopK
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.refine.recipes import RECIPES
from infoutil_jax.training.recover import Inversion

QUIET = DistillConfig(progress=False)
IMAGE = "images/3/000006.png"


def found(audited):
    return [(one.what, one.image) for one in audited.findings]


def audited(distilled, digits, teachers, **options):
    return audit(distilled.path, digits, teachers, config=QUIET, **options)


def test_a_set_as_it_was_made_passes(by_rank, digits, teachers):
    result = audited(by_rank, digits, teachers)
    assert result.passed and result.digest == by_rank.digest and result.images == 20
    assert str(result).endswith("nothing differs") and "20 images made again" in str(result)


def test_a_set_that_is_written_anew_passes(by_rank, digits, teachers, rewritten):
    assert audited(rewritten(by_rank), digits, teachers, tolerance=0.0).passed


def test_pixels_that_were_changed_are_told(by_rank, digits, teachers, rewritten):
    images = by_rank.images.copy()
    images[6, 2:4, 3] ^= 1
    distilled = rewritten(by_rank, images=images)
    distilled.verify()  # which whoever changed them has seen to
    (finding,) = audited(distilled, digits, teachers).findings
    assert (finding.what, finding.image) == ("pixels", IMAGE)
    assert finding.said == "2 of 64 are not the source's, by up to 1 of 255"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("score", 1e6, "score 1000000.0 instead of"),
        ("rank", 7, "rank 7 instead of 0"),
        ("box", [0, 0, 1, 1], "box [0, 0, 1, 1] instead of ["),
        ("source", "digits/9999", "source 'digits/9999' instead of"),
        ("map", [[1.0, 2.0], [3.0, 4.0]], "another map"),
    ],
)
def test_records_that_were_changed_are_told(by_rank, digits, teachers, rewritten, key, value, told):
    records = copy.deepcopy(list(by_rank.records))
    records[6]["tiles"][0][key] = value
    result = audited(rewritten(by_rank, records=records), digits, teachers)
    assert found(result) == [("records", IMAGE)]
    assert told in result.findings[0].said


def test_soft_labels_that_were_changed_are_told(by_rank, digits, teachers, rewritten):
    logits = by_rank.soft_labels.copy()
    logits[6, 0, 1] += 5
    result = audited(rewritten(by_rank, soft_labels=logits), digits, teachers)
    assert found(result) == [("labels", IMAGE)] and "by up to 5" in result.findings[0].said


def test_what_was_taken_from_labels_is_made_again(digits, teachers, tmp_path, rewritten):
    """Whoever changes it puts other words into the teacher's mouth."""
    recipe = dataclasses.replace(recipes.random(), centred=True)
    options = {"images_per_class": 2, "workdir": tmp_path / "set", "config": QUIET}
    made = distill(digits, teachers["converged"], recipe, **options)
    assert audited(rewritten(made), digits, teachers, tolerance=0.0).passed
    offsets = np.array(made.manifest["label_offsets"])
    offsets[3] += 5
    forged = {"label_offsets": offsets.tolist()}
    result = audited(rewritten(made, manifest=forged), digits, teachers)
    assert [one.what for one in result.findings] == ["manifest", *["labels"] * 20]
    logits = made.soft_labels - np.float32(5) * (np.arange(10) == 3)
    result = audited(
        rewritten(made, manifest=forged, soft_labels=logits.astype(np.float32)), digits, teachers
    )
    assert found(result) == [("manifest", "")]


def test_rounding_is_no_difference_unless_it_is_asked_for(by_rank, digits, teachers, rewritten):
    logits = by_rank.soft_labels * np.float32(1 + 1e-5)
    distilled = rewritten(by_rank, soft_labels=logits)
    assert audited(distilled, digits, teachers).passed
    strict = audited(distilled, digits, teachers, tolerance=0.0)
    assert {one.what for one in strict.findings} == {"labels"} and len(strict.findings) == 20


def test_an_image_that_another_one_has_replaced_differs_in_all(
    by_rank, digits, teachers, rewritten
):
    order = np.arange(20)
    order[6] = 7
    distilled = rewritten(
        by_rank,
        images=by_rank.images[order],
        soft_labels=by_rank.soft_labels[order],
        records=[by_rank.records[i] for i in order],
    )
    result = audited(distilled, digits, teachers)
    assert found(result) == [(what, IMAGE) for what in ("pixels", "records", "labels")]
    assert result.summary().endswith("differences: pixels 1, records 1, labels 1")


def test_a_claim_of_the_manifest_is_made_again(by_rank, digits, teachers, rewritten):
    label_teacher = by_rank.manifest["label_teacher"] | {"accuracy": 99.9}
    distilled = rewritten(by_rank, manifest={"label_teacher": label_teacher})
    (finding,) = audited(distilled, digits, teachers).findings
    assert finding.what == "manifest" and "99.9" in finding.said


def test_classes_that_were_renamed_are_told(by_rank, digits, teachers, rewritten):
    names = ("1", "0", *by_rank.class_names[2:])
    result = audited(rewritten(by_rank, class_names=names), digits, teachers)
    assert [one.said for one in result.findings] == [
        "class 0 is '1' instead of '0'",
        "class 1 is '0' instead of '1'",
    ]
    assert {one.what for one in result.findings} == {"labels"}


def test_a_set_of_another_budget_than_it_says_is_told(by_rank, digits, teachers, rewritten):
    result = audited(rewritten(by_rank, manifest={"images_per_class": 1}), digits, teachers)
    assert "records" in {one.what for one in result.findings} and not result.passed


def test_a_set_whose_rare_classes_were_filled_is_compared_with_the_source_alone(
    photo_set, tmp_path
):
    _, source, teacher, _ = photo_set
    made = distill(
        source.fill(4),
        teacher,
        recipes.rded(),
        images_per_class=4,
        workdir=tmp_path / "filled",
        config=QUIET,
    )
    assert audit(made.path, source, teacher, config=QUIET).passed


def test_images_that_look_mislabelled_are_noted_and_no_failure(digits, teachers, tmp_path):
    """A fifth of the labels are wrong; the teacher has learnt the right ones."""
    rng, labels = np.random.default_rng(0), digits.train.labels.copy()
    rows = rng.permutation(len(labels))[: len(labels) // 5]
    labels[rows] = (labels[rows] + rng.integers(1, 10, len(rows))) % 10
    train = dataclasses.replace(digits.train, labels=labels, fingerprint=None)
    source = dataclasses.replace(digits, train=train, _fingerprint="f" * 64, _told=None)
    made = distill(
        source,
        teachers["converged"],
        recipes.random(),
        images_per_class=6,
        workdir=tmp_path / "set",
        config=dataclasses.replace(QUIET, pool=6),
    )
    kept = [one["tiles"][0]["example"] for one in made.records]
    wrong = labels[kept] != digits.train.labels[kept]
    result = audit(made.path, source, teachers["converged"], config=QUIET)
    doubts = [one.image for one in result.doubts]
    names = sorted(name for name in made.manifest["files"] if name.startswith("images/"))
    told = np.isin(names, doubts)
    assert wrong.sum() >= 8 and (told & wrong).sum() >= 0.9 * max(told.sum(), wrong.sum())
    assert result.passed and result.as_json()["doubts"][0]["what"] == "class"
    first = int(np.flatnonzero(told & wrong)[0])
    source_id = made.records[first]["tiles"][0]["source"]
    right, given = digits.train.labels[kept[first]], labels[kept[first]]
    said = f"note: {names[first]}: class: {source_id} looks like {right} ("
    assert said in str(result) and f"rather than {given} (" in str(result)
    assert f"{len(doubts)} look mislabelled in the source, nothing differs" in str(result)


def test_with_another_teacher_records_that_say_nothing_are_told(
    by_rank, digits, teachers, rewritten
):
    distilled = rewritten(by_rank, records=[{}] * 20)
    result = audited(distilled, digits, teachers["converged"])
    assert found(result) == [("teacher", ""), ("records", "")]


def test_another_source_is_told_and_nothing_else(by_rank, teachers, photo_set):
    other = open_source("digits", seed=1)
    result = audited(by_rank, other, teachers)
    assert found(result) == [("source", "")] and result.images == 0
    assert other.fingerprint() in str(result)
    assert by_rank.manifest["source"]["fingerprint"] in str(result)


def test_another_teacher_is_told_and_pixels_are_compared_all_the_same(
    by_rank, digits, teachers, rewritten
):
    zeros = jax.tree.map(np.zeros_like, teachers["early"].variables)
    others = teachers | {"early": dataclasses.replace(teachers["early"], variables=zeros)}
    images = by_rank.images.copy()
    images[6, 0, 0] ^= 1
    result = audited(rewritten(by_rank, images=images), digits, others)
    assert found(result) == [("teacher", ""), ("pixels", IMAGE)]
    assert "the one that labelled has the digest" in str(result)


def test_a_teacher_of_another_scale_is_another_one(by_rank, digits, teachers):
    other = dataclasses.replace(teachers["early"], mean=0.1)
    assert found(audited(by_rank, digits, teachers | {"early": other})) == [("teacher", "")]


def test_files_that_have_changed_are_told_first(by_rank, digits, teachers, copied):
    folder = copied(by_rank)
    content = (folder / IMAGE).read_bytes()
    (folder / IMAGE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = audit(folder, digits, teachers)
    assert found(result) == [("files", "")] and IMAGE in str(result)


def test_where_there_is_no_set_there_is_no_audit(tmp_path, digits, teachers):
    with pytest.raises(InputError, match="is no distilled set"):
        audit(tmp_path, digits, teachers)


# --- the recipe


CASES = [make() for make in RECIPES.values()] + [
    recipes.infoutil(tiles=4, num_crops=3),
    recipes.infoutil_clear(mass=0.5),
    recipes.rded(scale=(0.5, 1.0)),
    recipes.infoutil_paper(
        shapley=ShapleyConfig(confidence=1.0), select=TopK("lowest", max_quantile=0.5)
    ),
]


@pytest.mark.parametrize("recipe", CASES, ids=lambda recipe: recipe.name)
def test_a_recipe_is_made_again_from_what_a_manifest_says_of_it(recipe):
    assert said(recalled(said(recipe))) == said(recipe)


def test_a_recipe_with_parts_of_ones_own_has_to_be_given(digits, teachers, tmp_path):
    def mine(predict, variables, crops, labels):
        return crops.mean((1, 2, 3))

    recipe = dataclasses.replace(recipes.rded(), score=mine, name="mine")
    teacher = teachers["early"]
    config = DistillConfig(pool=5, progress=False)
    made = distill(
        digits, teacher, recipe, images_per_class=1, workdir=tmp_path / "set", config=config
    )
    with pytest.raises(InputError, match="give the recipe itself, in Python"):
        audit(made.path, digits, teacher)
    assert audit(made.path, digits, teacher, recipe=recipe, config=QUIET).passed
    with pytest.raises(InputError, match="'rded' is not the one of"):
        audit(made.path, digits, teacher, recipe=recipes.rded())


@pytest.mark.parametrize("images", [10, 100])
def test_a_statistic_of_ones_own_has_to_be_given(images):
    with pytest.raises(InputError, match="give the recipe itself, in Python"):
        recalled(said(recipes.forgetting(np.arange(float(images)))))


@pytest.mark.parametrize("told", ["infoutil", {}, {"name": "x"}, None, [1]])
def test_what_describes_no_recipe_is_told(told):
    with pytest.raises(InputError, match="only such a recipe runs again"):
        recalled(told)


@pytest.mark.parametrize("part", ["os.system", "_CropLoss", "annotations", "np", "InputError", ""])
def test_a_manifest_names_parts_of_recipes_and_nothing_else(part):
    told = said(recipes.rded()) | {"score": {"function": part, "command": "true"}}
    with pytest.raises(InputError):
        recalled(told)


def test_a_painted_set_has_no_origin_to_compare_with(digits, teachers, tmp_path):
    settings = Inversion(iterations=1)
    made = sre2l(
        digits, teachers["early"], images_per_class=1, workdir=tmp_path / "s", settings=settings
    )
    with pytest.raises(InputError, match="was painted from a network by sre2l"):
        audit(made.path, digits, teachers)


# --- the command


def test_the_command_tells_by_its_exit_status(by_rank, teacher_dir, rewritten, copied, capsys):
    folder = copied(by_rank)
    asked = ["audit", str(folder), "--source", "digits"]
    assert main(asked) == 2 and "--teacher DIR" in capsys.readouterr().err
    (folder.parent / "teacher").symlink_to(teacher_dir)
    assert main(asked) == 0
    assert capsys.readouterr().out.count("\n") == 1  # a summary; the source is told on stderr
    images = by_rank.images.copy()
    images[6] = 255
    changed = rewritten(by_rank, images=images)
    asked = ["audit", str(changed.path), "--source", "digits", "--teacher", str(teacher_dir)]
    assert main(asked) == 1
    assert capsys.readouterr().out.startswith(f"{IMAGE}: pixels: ")
    assert main([*asked, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert not told["passed"] and told["findings"][0]["image"] == IMAGE
    assert main([*asked, "--tolerance", "-1"]) == 2


def test_the_command_tells_a_changed_byte(by_rank, teacher_dir, copied, capsys):
    folder = copied(by_rank)
    (folder / "README.md").write_text("mine")
    asked = ["audit", str(folder), "--source", "digits", "--teacher", str(teacher_dir)]
    assert main(asked) == 1 and "README.md has sha256" in capsys.readouterr().out
    shutil.rmtree(folder)
    assert main(asked) == 2
    with pytest.raises(InputError, match="is no distilled set"):
        made_with(folder, open_source, None)


def test_what_is_not_chosen_of_students_is_not_in_a_recipe_as_in_older_sets():
    old, parted = recipes.infoutil(centred=False), recipes.infoutil(tiles=4, partition=True)
    assert not {"partition", "centred"} & said(old).keys()
    assert said(parted)["partition"] and said(parted)["centred"]
    assert [recalled(said(one)) for one in (old, parted)] == [old, parted]
