"""A set forgets an image: what is there then is what would be there had it not been in the pool."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from infoutil_jax import files
from infoutil_jax.app.cli import main
from infoutil_jax.app.governance import audit, forget
from infoutil_jax.app.sets import made_by
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill, score_pool, sre2l
from infoutil_jax.distillation.distill import scoring_of
from infoutil_jax.distillation.manifest import arguments
from infoutil_jax.distillation.pool import choose_pool
from infoutil_jax.errors import InputError
from infoutil_jax.image.resampling import extract
from infoutil_jax.method import recipes
from infoutil_jax.method.recipes import infoutil_paper, random, rded
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.training.recover import Inversion

QUIET = DistillConfig(progress=False)


def tiles_of(distilled):
    return [tile for record in distilled.records for tile in record["tiles"]]


def everything(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def first_of(distilled, label):
    """The id and the number of the image that is ranked first in a class."""
    row = int(np.flatnonzero(distilled.labels == label)[0])
    tile = distilled.records[row]["tiles"][0]
    return tile["source"], tile["example"]


# --- what is there then


def test_the_next_in_rank_takes_the_place(by_rank, digits, teachers, copied):
    name, example = first_of(by_rank, 3)
    done = forget(copied(by_rank), [name], digits, teachers, config=QUIET)
    assert done.tiles == 1
    pool = score_pool(
        digits,
        teachers["converged"],
        infoutil_paper(shapley=ShapleyConfig(budget=32, pilot=0)),
        config=DistillConfig(pool=9, progress=False),  # eight are left of nine
    ).rows.candidates
    kept, before = (
        np.array([tile["example"] for tile in tiles_of(one)]).reshape(10, 2)
        for one in (done.distilled, by_rank)
    )
    others = np.arange(10) != 3
    np.testing.assert_array_equal(kept[others], before[others])
    ids = np.setdiff1d(pool.ids[pool.labels == 3], [example])
    best = [pool.scores[pool.ids == i].max() for i in ids]
    np.testing.assert_array_equal(kept[3], ids[np.argsort(best)[::-1][:2]])


def test_the_place_in_a_pool_goes_to_the_next_that_was_drawn():
    labels = np.zeros(50, np.int32)
    order = []  # as the pool grows
    for size in range(1, 51):
        order += sorted(set(choose_pool(labels, size, 7).tolist()) - set(order))
    without = choose_pool(labels, 10, 7, (order[3], order[20]))
    assert set(without) == set(order[:11]) - {order[3]}
    assert set(choose_pool(labels, None, 7, (3,))) == set(range(50)) - {3}


def test_an_audit_passes_afterwards_and_the_set_says_what_was_done(
    by_rank, digits, teachers, copied
):
    name, example = first_of(by_rank, 3)
    done = forget(copied(by_rank), [name], digits, teachers, config=QUIET)
    distilled = done.distilled
    assert audit(distilled.path, digits, teachers, tolerance=0.0, config=QUIET).passed
    assert distilled.manifest["forgotten"]["examples"] == [example]
    assert "| Removed | training images: 1," in (distilled.path / "README.md").read_text()
    assert not any(name.encode() in content for content in everything(distilled.path).values())


def test_at_once_or_one_after_the_other_the_bytes_are_the_same(by_rank, digits, teachers, copied):
    one, other = first_of(by_rank, 3)[0], first_of(by_rank, 8)[0]
    at_once = copied(by_rank, "a/set")
    forget(at_once, [one, other], digits, teachers, config=QUIET)
    apart = copied(by_rank, "b/set")
    for name in (other, one):
        forget(apart, [name], digits, teachers, config=QUIET)
    assert everything(at_once) == everything(apart)
    teacher, labeller = teachers["converged"], teachers["early"]
    made = distill(
        digits,
        teacher,
        infoutil_paper(shapley=ShapleyConfig(budget=32, pilot=0)),
        images_per_class=2,
        workdir=at_once.with_name("distilled"),
        label_teacher=labeller,
        config=DistillConfig(
            pool=8, progress=False, forgotten=tuple(first_of(by_rank, i)[1] for i in (8, 3))
        ),
    )
    assert everything(made.path) == everything(at_once)


def test_an_image_that_was_in_no_tile_is_kept_out_all_the_same(by_rank, digits, teachers, copied):
    inside = {tile["example"] for tile in tiles_of(by_rank)}
    example = next(i for i in choose_pool(digits.train.labels, 8, 0) if i not in inside)
    done = forget(copied(by_rank), [digits.train.ids[example]], digits, teachers, config=QUIET)
    assert done.tiles == 0 and tiles_of(done.distilled) == tiles_of(by_rank)
    assert done.distilled.manifest["forgotten"]["examples"] == [example]


FITTED = infoutil_paper(shapley=ShapleyConfig(budget=32))  # to the teacher, on the pool's images


@pytest.mark.parametrize(
    "recipe", [recipes.infoutil(), rded(tiles=4), FITTED], ids=lambda one: one.name
)
def test_other_recipes_choose_anew(digits, teachers, tmp_path, recipe):
    teacher = teachers["early"]
    made = distill(
        digits,
        teacher,
        recipe,
        images_per_class=1,
        workdir=tmp_path / "set",
        config=DistillConfig(pool=12, licence="cc0-1.0", progress=False),
    )
    name, example = first_of(made, 5)
    done = forget(made.path, [name], digits, teacher, config=QUIET)
    assert example not in {tile["example"] for tile in tiles_of(done.distilled)}
    assert done.distilled.manifest["licence"] == "cc0-1.0"
    assert audit(made.path, digits, teacher, config=QUIET).passed


# --- photographs: nothing stays, and the image may go from the source, too


def every_crop(image):
    """Every square of an image, as a set would show it."""
    size = len(image)
    boxes = [
        (top, left, side, side)
        for side in range(8, size + 1)
        for top in range(size - side + 1)
        for left in range(size - side + 1)
    ]
    return np.asarray(extract(image[None], np.array([boxes], np.int32), (size, size)))[0]


def test_no_tile_is_a_piece_of_the_image(photo_set):
    _, source, teacher, distilled = photo_set
    made = distill(
        source,
        teacher,
        rded(),
        images_per_class=1,
        workdir=distilled.path,
        config=DistillConfig(overwrite=True, progress=False),
    )
    name, example = first_of(made, 1)
    pieces = every_crop(source.train.image(example)).astype(np.int16)

    def nearest(distilled):
        """Grey levels between any image of a set and any piece of the photograph."""
        return min(
            float(np.abs(pieces - image.astype(np.int16)).mean((1, 2, 3)).min())
            for image in distilled.images
        )

    assert nearest(made) == 0  # the test would see it
    done = forget(made.path, [name], source, teacher, config=QUIET)
    assert nearest(done.distilled) > 20
    for content in everything(made.path.parent).values():
        assert name.encode() not in content


def test_an_audit_passes_after_the_image_is_gone_from_the_source(photo_set):
    folder, source, teacher, distilled = photo_set
    name = first_of(distilled, 0)[0]
    forget(distilled.path, [name], source, teacher, config=QUIET)
    assert audit(distilled.path, source, teacher, config=QUIET).passed
    (folder / name).unlink()
    now = open_source(f"folder:{folder}", image_size=32)
    assert audit(distilled.path, now, teacher, tolerance=0.0, config=QUIET).passed
    other = first_of(DistilledDataset.load(distilled.path), 2)[0]
    forget(distilled.path, [other], now, teacher, config=QUIET)  # the next one
    assert audit(distilled.path, now, teacher, config=QUIET).passed
    (folder / other).unlink()
    now = open_source(f"folder:{folder}", image_size=32)
    assert audit(distilled.path, now, teacher, config=QUIET).passed
    third = next((folder / "train").glob("*/*"))
    third.unlink()  # which was not forgotten
    now = open_source(f"folder:{folder}", image_size=32)
    assert audit(distilled.path, now, teacher).findings[0].what == "source"


def test_what_shows_the_earlier_set_goes_and_what_holds_the_image_is_named(photo_set):
    _, source, teacher, distilled = photo_set
    run, name = distilled.path.parent, first_of(distilled, 0)[0]
    shutil.copytree(distilled.path, run / "random")
    shown = ("distilled.png", "distilled-report.html", "overview.png", "report.html")
    for file in (*shown, "summary.json", "mine.png"):
        (run / file).write_text("{}")
    (run / "distilled.scoring").mkdir()
    done = forget(distilled.path, [name], source, teacher, config=QUIET)
    assert {file.name for file in done.removed} == set(shown)
    assert [folder.name for folder in done.elsewhere] == ["random"]
    left = {"distilled", "distilled.scoring.json", "random", "summary.json", "mine.png"}
    assert {path.name for path in run.iterdir()} == left


def test_a_run_given_again_finds_the_set_and_does_not_bring_the_image_back(photo_set):
    _, source, teacher, distilled = photo_set
    forget(distilled.path, [first_of(distilled, 0)[0]], source, teacher, config=QUIET)
    wanted = arguments(source, random(), 1, QUIET.pool, 0)
    found = made_by(distilled.path, wanted)
    assert found is not None and "forgotten" in found.manifest


def test_a_set_behind_a_link_is_replaced_where_it_lies(photo_set, tmp_path):
    _, source, teacher, distilled = photo_set
    link = tmp_path / "link"
    link.symlink_to(distilled.path)
    (tmp_path / "run" / "distilled.png").touch()
    done = forget(link, [first_of(distilled, 0)[0]], source, teacher, config=QUIET)
    assert link.is_symlink() and [file.name for file in done.removed] == ["distilled.png"]
    assert "forgotten" in DistilledDataset.load(distilled.path).manifest


# --- what is refused, with the set as it was


def test_refusals_change_nothing(photo_set, digits, teachers):
    _, source, teacher, distilled = photo_set
    name, before = first_of(distilled, 0)[0], everything(distilled.path)
    other = dataclasses.replace(teacher, variables=teacher.variables * 2)
    of_class = [one for one in source.train.ids if name.rpartition("/")[0] in one]
    for ids, images, network, told in (
        ([name[:-5]], source, teacher, f"did you mean '{name}'"),
        ([], source, teacher, "name at least one image"),
        ([name], digits, teacher, "was not distilled from digits"),
        ([name], source, other, "give the teachers that the set was made with"),
        (of_class, source, teacher, "0 training images without those that are to be forgotten"),
    ):
        with pytest.raises(InputError, match=told):
            forget(distilled.path, ids, images, network, config=QUIET)
        assert everything(distilled.path) == before
    assert not scoring_of(distilled.path).exists()


def test_what_is_forgotten_cannot_be_forgotten_again(photo_set):
    _, source, teacher, distilled = photo_set
    name = first_of(distilled, 0)[0]
    forget(distilled.path, [name], source, teacher, config=QUIET)
    with pytest.raises(InputError, match="that is not forgotten yet"):
        forget(distilled.path, [name], source, teacher, config=QUIET)


def test_refined_and_painted_pixels_are_refused(photo_set, digits, teachers, tmp_path):
    _, source, teacher, _ = photo_set

    def same(key, teacher, images, soft_labels, pool):
        return images, soft_labels

    recipe = dataclasses.replace(random(), refine=same)
    made = distill(
        source, teacher, recipe, images_per_class=1, workdir=tmp_path / "refined", config=QUIET
    )
    with pytest.raises(InputError, match="refined pixels, which many images have shaped"):
        forget(made.path, ["x"], source, teacher, recipe=recipe)
    settings = Inversion(iterations=1)
    painted = sre2l(
        digits, teachers["early"], images_per_class=1, workdir=tmp_path / "s", settings=settings
    )
    with pytest.raises(InputError, match="was painted from a network"):
        forget(painted.path, ["x"], digits, teachers)


@pytest.mark.parametrize(("swaps", "ending"), [(True, "partial"), (False, "old")])
def test_what_cannot_be_removed_is_told(photo_set, monkeypatch, swaps, ending):
    _, source, teacher, distilled = photo_set
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
    if not swaps:
        monkeypatch.setattr(files, "exchanged", lambda *_: False)
    with pytest.raises(InputError, match=rf"\.{ending} holds files of the earlier set"):
        forget(distilled.path, [first_of(distilled, 0)[0]], source, teacher, config=QUIET)


# --- the command


def test_the_command_says_what_it_has_done_and_what_it_leaves(by_rank, teacher_dir, copied, capsys):
    folder = copied(by_rank)
    (folder.parent / "teacher").symlink_to(teacher_dir)
    (folder.parent / "distilled.png").touch()
    one, other = first_of(by_rank, 3)[0], first_of(by_rank, 8)[0]
    asked = ["forget", str(folder), "--source", "digits", "--source-id"]
    assert main([*asked, one, "--source-id", other]) == 0
    said = capsys.readouterr().out
    assert "made again without 2 images, of which the earlier set had 2 tiles" in said
    assert f"removed, for it showed the earlier set: {folder}.png" in said
    assert "left as they are: the source, teachers" in said
    assert main(["audit", str(folder), "--source", "digits"]) == 0
    assert len(json.loads((folder / "manifest.json").read_text())["forgotten"]["examples"]) == 2
    assert main([*asked, "digits/none"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("infoutil: digits has no training")
