"""Why is this image in the set? The set's own records say it."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from infoutil_jax.app.cli import main
from infoutil_jax.app.governance import explain
from infoutil_jax.app.governance.explain import in_words
from infoutil_jax.data.distilled import write_distilled
from infoutil_jax.errors import InputError

TILE = {
    "source": "cats/1.png",
    "example": 7,
    "crop": 2,
    "box": [0, 2, 4, 4],
    "score": 1.5,
    "rank": 1,
    "map": [[1.0, 2.0], [3.0, 4.0]],
}
RECIPE = {
    "name": "infoutil_paper",
    "attribute": {"function": "ShapleyMaps"},
    "crop": {"function": "ShapleyBoxes", "num_crops": 5},
    "score": {"function": "GradientNorm"},
    "select": {"kind": "TopK", "keep": "highest"},
}


@pytest.fixture
def write(tmp_path):
    """A set of two classes, two images each, whose second image has a record that is given."""

    def write(tile=TILE, **manifest):
        records = [{"tiles": [{**TILE, "rank": i % 2}]} for i in range(4)]
        records[1] = {"tiles": [tile]}
        return write_distilled(
            tmp_path / "set",
            images=np.zeros((4, 8, 8, 1), np.uint8),
            labels=np.array([0, 0, 1, 1]),
            soft_labels=np.log(np.array([[[0.1, 0.9]]] * 4, np.float32)),
            class_names=("cats", "dogs"),
            records=records,
            manifest={"recipe": RECIPE, "pool": 300} | manifest,
            overwrite=True,
        )

    return write


def test_the_teacher_is_quoted_with_what_was_taken_from_its_logits(write):
    plain, centred = (
        [one["probability"] for one in explain(write(**said), 1)["tiles"][0]["teacher_says"]]
        for said in ({}, {"label_offsets": [np.log(9.0), 0.0]})
    )
    assert plain == pytest.approx([0.9, 0.1]) and centred == pytest.approx([0.5, 0.5])


def test_an_image_is_explained_by_its_record(write):
    told = explain(write(), 1)
    assert (told["file"], told["number"], told["class"]) == ("images/cats/000001.png", 1, "cats")
    (tile,) = told["tiles"]
    assert {name: tile[name] for name in ("source", "example", "crop", "box", "score")} == {
        name: TILE[name] for name in ("source", "example", "crop", "box", "score")
    }
    assert (tile["rank"], tile["of"], told["pool"]) == (2, 2, 300)
    assert tile["box_share"] == 16 / 64
    says = [(one["class"], round(one["probability"], 4)) for one in tile["teacher_says"]]
    assert says == [("dogs", 0.9), ("cats", 0.1)]


def test_a_map_counts_each_patch_by_the_share_of_it_that_is_in_the_box(write):
    """The box has half of each of the two upper patches: (1 + 2) / 2 of 10."""
    (tile,) = explain(write(), 1)["tiles"]
    assert tile["map"] == {"in_box": 1.5, "whole": 10.0, "share": 0.15}
    (tile,) = explain(write(TILE | {"map": [[-1.0, 0.5], [0.0, 0.0]]}), 1)["tiles"]
    assert tile["map"] == {"in_box": -0.25, "whole": -0.5, "share": None}
    (tile,) = explain(write(TILE | {"map": [[0.0]]}), 1)["tiles"]
    assert tile["map"] is None


@pytest.mark.parametrize(
    "image", [1, "1", "000001", "000001.png", "cats/000001.png", "images/cats/000001.png"]
)
def test_an_image_is_named_by_its_number_or_its_file(write, image):
    assert explain(write(), image)["number"] == 1


def test_the_file_may_be_typed_with_the_set_before_it(write):
    distilled = write()
    assert explain(distilled, str(distilled.path / "images/dogs/000002.png"))["number"] == 2


@pytest.mark.parametrize("image", [4, "-1", "000007.png", "png", ""])
def test_what_is_no_image_of_the_set_is_told(write, image):
    with pytest.raises(InputError, match="a number from 0 to 3, or a file such as images/cats/0"):
        explain(write(), image)


def test_words_say_it_all(write):
    teacher = {"name": "convnet3", "stage": "early", "digest": "d", "mean": [0.5], "std": [0.5]}
    distilled = write(label_teacher=teacher)
    assert in_words(explain(distilled, 1)).splitlines() == [
        "images/cats/000001.png, class 'cats'",
        "rule: infoutil_paper cuts five crops of each image around the patches of the highest "
        "Shapley values, and keeps those of each class with the highest gradient norm at the "
        "teacher.",
        "from: cats/1.png (training image 7), rows 0 to 3, columns 2 to 5 (25% of it)",
        "map: the Shapley values in the box sum to 1.5, 15% of the whole (10)",
        "score: 1.5, gradient norm",
        "rank: 2 of the 2 kept, from up to 300 images of its class",
        "the teacher that labels (early convnet3) says: dogs 90.0%, cats 10.0%",
    ]


def test_an_image_of_no_source_says_so(write):
    origin = dict.fromkeys(("source", "example", "crop", "box", "map"))
    told = explain(write(TILE | origin, recipe={"name": "sre2l", "settings": {}}), 1)
    assert "paints each image" in told["rule"] and told["tiles"][0]["map"] is None
    assert "from: no image of a source" in in_words(told)


def test_how_far_an_image_was_refined_is_told(by_rank, rewritten):
    records = copy.deepcopy(list(by_rank.records))
    records[3]["refined"] = {"rms": 2.5, "most": 9}
    distilled = rewritten(by_rank, records=records)
    assert explain(distilled, 3)["refined"] == {"rms": 2.5, "most": 9}
    assert "by 9 grey levels of 255 at most" in in_words(explain(distilled, 3))
    assert "refined:" not in in_words(explain(distilled, 2))


def test_names_cannot_write_to_the_terminal(write):
    said = in_words(explain(write(TILE | {"source": "\x1b[31m\n.png"}), 1))
    assert "\x1b" not in said and "\\U0000001B[31m\\U0000000A.png" in said


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"tiles": [TILE | {"map": [[1.0], [2.0, 3.0]]}]}, "lines differ in length"),
        ({"tiles": [TILE | {"map": [[1.0] * 9] * 2}]}, "no grid of patches"),
        ({"tiles": [TILE], "refined": "far"}, "has refined 'far'"),
    ],
)
def test_records_that_cannot_be_are_told(by_rank, rewritten, record, told):
    distilled = rewritten(by_rank, records=[record] * 20)
    with pytest.raises(InputError, match=told):
        explain(distilled, 0)


@pytest.mark.parametrize("crop", [None, [], "x", {"function": "RandomResizedBoxes"}])
@pytest.mark.parametrize("select", [None, {"kind": "Chain", "selectors": 3}, {"kind": ["TopK"]}])
def test_a_recipe_is_told_as_far_as_it_can_be(write, crop, select):
    recipe = {"name": "mine", "crop": crop, "select": select, "score": {"function": "loud"}}
    assert explain(write(recipe=recipe), 0)["rule"].startswith("mine ")


def test_records_that_do_not_say_it_are_told(by_rank, rewritten):
    distilled = rewritten(by_rank, records=[{}] * 20)
    with pytest.raises(InputError, match=r"metadata\.jsonl line 1 does not say of its tiles"):
        explain(distilled, 0)


def test_with_the_source_it_says_how_many_images_there_were(by_rank, digits, photo_set):
    assert explain(by_rank, 0)["tiles"][0]["class_images"] is None
    told = explain(by_rank, 0, source=digits)
    assert told["tiles"][0]["class_images"] == int((digits.train.labels == 0).sum())
    assert "from 8 images of its class" in in_words(told)  # the pool had fewer
    with pytest.raises(InputError, match="was not distilled from folder:"):
        explain(by_rank, 0, source=photo_set[1])


def test_the_command_prints_words_or_json(by_rank, capsys):
    assert main(["explain", str(by_rank.path), "5"]) == 0
    assert capsys.readouterr().out.strip() == in_words(explain(by_rank, 5))
    assert main(["explain", str(by_rank.path), "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == explain(by_rank, 5)
    assert main(["explain", str(by_rank.path), "99"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_draws_where_it_comes_from(by_rank, tmp_path, capsys):
    asked = ["explain", str(by_rank.path), "5", "--picture", str(tmp_path / "why.png")]
    assert main(asked) == 2 and "--source" in capsys.readouterr().err
    assert main([*asked, "--source", "digits"]) == 0
    assert np.asarray(Image.open(tmp_path / "why.png").convert("RGB")).std() > 0
