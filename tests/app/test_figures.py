"""The pictures."""

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from infoutil_jax.app.figures import overview, plot_attributions, plot_distilled, plot_tradeoff
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


def test_attributions_have_a_scale_about_zero_and_a_box(digits):
    figure, values = Figure(), np.array([[0.5, -2.0], [0.0, 1.0]])
    axes = plot_attributions(figure.subplots(), digits.train.image(0), values, (2, 1, 4, 3))
    drawn = axes.images[1]
    assert (drawn.norm.vmin, drawn.norm.vmax) == (-2.0, 2.0)
    assert drawn.get_extent() == [-0.5, 7.5, 7.5, -0.5]
    (box,) = axes.patches
    assert (box.get_y(), box.get_x(), box.get_height(), box.get_width()) == (1.5, 0.5, 4, 3)
    assert figure.axes[1].get_ylabel() == "Shapley value"


def test_a_sheet_shows_each_image_in_its_classs_row(digits, tmp_path):
    images, _ = digits.train.arrays()
    made = write_distilled(
        tmp_path / "set",
        images=images[:6],
        labels=np.repeat(np.arange(2), 3),
        soft_labels=np.zeros((6, 1, 2), np.float32),
        class_names=("ants", "bees"),
        records=[{"tiles": []}] * 6,
        manifest={},
    )
    axes = plot_distilled(Figure().subplots(), made, per_class=2)
    (sheet,) = (one.get_array() for one in axes.images)
    assert sheet.shape == (17, 17)
    np.testing.assert_array_equal(sheet[9:, 9:], made.images[4, ..., 0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ants", "bees"]


def test_a_tradeoff_shows_means_and_deviations(tmp_path):
    results = {"ours": {1: [10.0, 20.0], 10: [50.0]}, "theirs": {1: [12.0], 10: [40.0]}}
    figure = Figure()
    axes = plot_tradeoff(figure.subplots(), results, everything=90.0)
    first, second = axes.containers
    np.testing.assert_allclose(first.lines[0].get_xydata(), [[1, 15], [10, 50]])
    np.testing.assert_allclose(
        first.lines[2][0].get_segments()[0][:, 1], 15 + np.std([10, 20], ddof=1) * np.array([-1, 1])
    )
    assert first.lines[0].get_color() != second.lines[0].get_color()
    assert first.lines[0].get_marker() != second.lines[0].get_marker()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["1", "10"]
    figure.savefig(tmp_path / "tradeoff.svg")
    assert "<svg" in (tmp_path / "tradeoff.svg").read_text()
