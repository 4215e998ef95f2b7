"""Several recipes on one source: which is ahead, and whether that can be told."""

import json
from dataclasses import replace

import numpy as np
import pytest

from infoutil_jax.app.accounts import mean_interval
from infoutil_jax.app.comparison import Comparison, _Pools, compare
from infoutil_jax.app.config import CompareConfig
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.errors import InputError
from infoutil_jax.method import recipes
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.teacher import load_teachers

CONFIG = CompareConfig(
    images_per_class=1,
    teacher=TeacherConfig(width=8, epochs=1, early_epochs=1),
    student=StudentConfig(width=8, epochs=1, seeds=(3, 5)),
)


def of(**top1) -> Comparison:
    return Comparison(top1, 10, majority=50.0, everything=90.0, images=240)


def test_half_of_an_interval_is_students_quantile_of_the_standard_error():
    """Student's t with two degrees of freedom has its 97.5% quantile at 4.303."""
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert mean_interval([1.0]) == (1.0, None)


def test_leads_are_seed_by_seed():
    """A spread that both share is none of the lead."""
    found = of(random=[50.0, 60.0, 70.0], rded=[52.0, 62.1, 71.9])
    mean, half = found.lead("rded")
    assert mean == pytest.approx(2.0) and half < 0.3


def test_a_recipe_is_advised_only_where_its_lead_is_clear():
    clear = of(random=[60.0, 61.0, 62.0], rded=[65.0, 66.0, 67.1])
    assert clear.advice().startswith("Take rded: it leads random images by 5.0")
    unclear = of(random=[60.0, 61.0, 62.0], rded=[58.0, 71.0, 60.0]).advice()
    assert unclear.startswith("Take rded if you have to choose now") and "may be chance" in unclear
    assert "--student.seeds" in unclear and "wider" not in unclear
    three = of(random=[60.0, 61.0, 62.0], rded=[58.0, 71.0, 60.0], herding=[50.0] * 3).advice()
    assert "wider than in the table since it is the best of 2" in three
    assert of(random=[60.0, 61.0], rded=[59.0, 60.0]).advice().startswith("No recipe is ahead")
    assert "one seed cannot tell" in of(random=[60.0], rded=[65.0]).advice()


def test_more_rivals_need_a_larger_lead():
    """The best of many is ahead by chance more often than one alone."""
    random, best = [60.0, 61.0, 62.0], [61.0, 61.9, 63.1]
    assert of(random=random, a=best).advice().startswith("Take a:")
    many = {name: [50.0, 50.0, 50.0] for name in "bcdefghijklmnop"}
    assert not of(random=random, a=best, **many).advice().startswith("Take a:")


def test_the_way_from_the_largest_class_to_the_teacher_is_told():
    found = of(random=[60.0, 60.0], rded=[70.0, 70.5])
    assert "51% of the way" in found.advice() and "more images a class" in found.advice()
    assert replace(found, everything=None).advice().count("way") == 0


def test_rows_show_what_was_measured():
    rows = of(random=[60.0, 62.0], rded=[64.0, 66.0]).rows()
    assert rows[1] == ["random", "61.0 ± 1.4", ""]
    assert rows[2][1:] == ["65.0 ± 1.4", "+4.0 ± 0.0"] or rows[2][2].startswith("+4.0")
    assert rows[-2:] == [
        ["the largest class alone", "50.0", ""],
        ["all 240 images (the best teacher)", "90.0", ""],
    ]


def test_sets_are_those_of_distill_and_what_is_there_is_used(digits, tmp_path, monkeypatch):
    """Herding and k-means examine the same images, so one pool is scored for both."""
    said, asked = [], ["rded", "herding", recipes.k_means()]
    found = compare(digits, tmp_path, asked, CONFIG, progress=False, say=said.append)
    assert list(found.top1) == ["random", "rded", "herding", "k_means"]
    assert all(len(values) == 2 for values in found.top1.values())
    told = " ".join(said)
    assert (
        "2 epochs of teachers on 1438 images, then 8 students on sets of 4 recipes: about 1 min"
        in told
    )
    assert told.index("about 1 min") < told.index("teachers: early")  # before it begins
    teacher = load_teachers(tmp_path / "teacher")
    for name in ("herding", "k_means"):
        alone = distill(
            digits,
            teacher["converged"],
            recipes.RECIPES[name](),
            images_per_class=1,
            workdir=tmp_path / "alone" / name,
            label_teacher=teacher[
                DistilledDataset.load(tmp_path / f"{name}-5").manifest["label_teacher"]["stage"]
            ],
            seed=5,
            config=DistillConfig(progress=False),
        )
        shared = DistilledDataset.load(tmp_path / f"{name}-5")
        np.testing.assert_array_equal(shared.images, alone.images)
        assert shared.manifest["sha256"] == alone.manifest["sha256"]

    def never(*_, **__):
        raise AssertionError("everything was there")

    for work in ("distill", "distill_pool"):
        monkeypatch.setattr(f"infoutil_jax.app.sets.{work}", never)
    monkeypatch.setattr("infoutil_jax.app.comparison.train_students", never)
    again = compare(digits, tmp_path, asked, CONFIG, progress=False, say=said.append)
    assert again == found
    monkeypatch.undo()
    compare(digits, tmp_path, ["rded"], replace(CONFIG, tiles=1), progress=False, say=said.append)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert list(content["recipes"]) == ["random", "rded"] and "k_means" in content["earlier"]
    compare(digits, tmp_path, asked, CONFIG, progress=False, say=said.append)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert Comparison.of(content) == found
    assert content["command"].startswith("infoutil compare digits")


def test_two_recipes_of_one_name_are_told(digits, tmp_path):
    with pytest.raises(InputError, match="two recipes are called 'rded'"):
        compare(digits, tmp_path, ["rded", recipes.rded()], CONFIG)
    assert not list(tmp_path.iterdir())


def test_recipes_share_a_pool_where_crops_have_one_size(digits, teachers):
    """Crops are scored at the size of a tile."""
    teacher, few = teachers["converged"], recipes.herding(tiles=1)
    for other, shared in ((recipes.k_means(tiles=1), True), (recipes.k_means(tiles=4), False)):
        pools = _Pools(digits, [few, other], DistillConfig(progress=False))
        assert all((pools.of(one, teacher, 0) is not None) == shared for one in (few, other))
