"""The picture and the table."""

import numpy as np
from PIL import Image

from infoutil_jax.app.picture import overview
from infoutil_jax.app.report import accuracy_table
from infoutil_jax.data.distilled import write_distilled
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.method.recipes import infoutil_paper, random
from infoutil_jax.method.shapley_maps import ShapleyConfig


def test_overview_shows_original_map_box_and_images(digits, teachers, tmp_path):
    made = distill(
        digits,
        teachers["converged"],
        infoutil_paper(shapley=ShapleyConfig(budget=20)),
        images_per_class=3,
        workdir=tmp_path / "set",
        config=DistillConfig(pool=10, progress=False),
    )
    path = tmp_path / "figures" / "overview.png"
    figure = overview(made, digits, path, classes=4, per_class=2)
    axes = np.asarray(figure.axes).reshape(4, 5)
    for row in range(4):
        tile = made.records[3 * row]["tiles"][0]
        original = digits.train.image(tile["example"])[..., 0]
        np.testing.assert_array_equal(axes[row, 0].images[0].get_array(), original)
        np.testing.assert_allclose(axes[row, 1].images[1].get_array(), tile["map"])
        (box,) = axes[row, 2].patches
        assert [box.get_height(), box.get_width()] == tile["box"][2:]
        np.testing.assert_array_equal(
            axes[row, 4].images[0].get_array(), made.images[3 * row + 1, ..., 0]
        )
    assert np.asarray(Image.open(path)).shape[2] == 4


def test_a_map_of_one_patch_is_not_shown(digits, teachers, tmp_path):
    made = distill(
        digits,
        teachers["converged"],
        random(),
        images_per_class=1,
        workdir=tmp_path / "set",
        config=DistillConfig(pool=3, progress=False),
    )
    titles = [axis.get_title(loc="left") for axis in overview(made, digits, classes=1).axes]
    assert titles == ["original", "what is kept", "distilled images"]


def test_images_without_an_origin_are_shown_alone(digits, tmp_path):
    """As those of SRe2L."""
    nowhere = dict.fromkeys(("source", "example", "crop", "box", "map"))
    images, _ = digits.train.arrays()
    made = write_distilled(
        tmp_path / "set",
        images=images[:20],
        labels=np.repeat(np.arange(10), 2),
        soft_labels=np.zeros((20, 1, 10), np.float32),
        class_names=digits.class_names,
        records=[{"tiles": [{**nowhere, "score": 0.0, "rank": 0}]}] * 20,
        manifest={},
    )
    axes = np.asarray(overview(made, digits, classes=3, per_class=2).axes).reshape(3, 2)
    assert axes[0, 0].get_title("left") == "distilled images"
    np.testing.assert_array_equal(axes[1, 0].images[0].get_array(), made.images[2, ..., 0])


def test_accuracies_are_means_and_deviations():
    table = accuracy_table({"a": {1: [10.0, 20.0], 10: [50.0]}, "method b": {10: [61.0, 59.0]}})
    assert table.splitlines() == [
        "| top-1, % | 1 / class  | 10 / class |",
        "|----------|------------|------------|",
        "| a        | 15.0 ± 7.1 | 50.0       |",
        "| method b | not run    | 60.0 ± 1.4 |",
    ]
