"""Students that take each tile for an image of its own."""

from dataclasses import replace

import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.training.config import StudentConfig
from infoutil_jax.training.labelled import Labelled
from infoutil_jax.training.renewal import Renewal
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision

CONFIG = StudentConfig(backbone="convnet3", width=4, epochs=2, seeds=(0, 1), labels="stored")
LABELS = np.array([0, 1, 2], np.int32)


def tiled(seed=0):
    """Three images of four tiles of one grey each, their soft labels, and the greys."""
    drawn = np.random.default_rng(seed)
    greys = drawn.integers(0, 256, (3, 4), np.uint8)
    tiles = np.broadcast_to(greys[..., None, None, None], (3, 4, 4, 4, 1))
    soft = drawn.normal(size=(3, 4, 3)).astype(np.float32)
    return mosaic.assemble(tiles, (8, 8)), soft, greys


def supervision(soft, tiles):
    return Supervision(3, soft_labels=soft, tiles=tiles, mean=(0.5,), std=(0.25,))


def test_each_tile_becomes_an_image_with_its_own_labels():
    images, soft, greys = tiled()
    parts, own = supervision(soft, 4).partitioned(Labelled(images, LABELS))
    wanted = np.broadcast_to(greys.reshape(-1, 1, 1, 1), (12, 8, 8, 1))
    np.testing.assert_array_equal(parts.images, wanted)
    np.testing.assert_array_equal(parts.labels, np.repeat(LABELS, 4))
    np.testing.assert_array_equal(own.soft_labels, soft.reshape(12, 1, 3))
    assert own.tiles == 1


def test_a_set_for_each_seed_is_parted_alike():
    one, other = tiled(0), tiled(1)
    both = np.stack([one[0], other[0]]), np.stack([one[1], other[1]])
    parts, own = supervision(both[1], 4).partitioned(Labelled(both[0], LABELS))
    for i, (images, soft, _) in enumerate((one, other)):
        alone, labels = supervision(soft, 4).partitioned(Labelled(images, LABELS))
        np.testing.assert_array_equal(parts.images[i], alone.images)
        np.testing.assert_array_equal(own.soft_labels[i], labels.soft_labels)


@pytest.mark.parametrize("labels", ["stored", "hard"])
def test_students_are_those_of_the_tiles_as_images(labels):
    images, soft, _ = tiled()
    test = np.repeat(images[:, :4, :4], 2, 1), LABELS
    config = replace(CONFIG, labels=labels)
    found = train_student(
        (images, LABELS), test, replace(config, partition=True), supervision=supervision(soft, 4)
    )
    parts, own = supervision(soft, 4).partitioned(Labelled(images, LABELS))
    wanted = train_student(tuple(parts), test, config, supervision=own)
    np.testing.assert_array_equal(found.loss, wanted.loss)
    assert found.test_view == "whole"
    tiles = train_student((images, LABELS), test, config, supervision=supervision(soft, 4))
    assert (tiles.loss != found.loss).any()


def test_an_image_of_one_tile_is_its_own_partition():
    images, soft, _ = tiled()
    whole = supervision(soft[:, :1], 1)
    found, wanted = (
        train_student(
            (images, LABELS),
            (images, LABELS),
            replace(CONFIG, partition=partition),
            supervision=whole,
        ).loss
        for partition in (True, None)
    )
    np.testing.assert_array_equal(found, wanted)


def test_a_reserve_has_no_partition():
    images, soft, _ = tiled()
    config = replace(CONFIG, partition=True)
    with pytest.raises(InputError, match="partition"):
        train_student(
            (images, LABELS),
            (images, LABELS),
            config,
            supervision=supervision(soft, 4),
            renewal=Renewal(keep=1),
        )


def test_what_a_set_asks_for_gives_way_to_what_was_chosen():
    asks = {"temperature": 1.0, "partition": True}
    stored = StudentConfig(labels="stored")
    assert stored.asked(asks).temperature == 1 and stored.asked(asks).partition
    assert StudentConfig(labels="online").asked(asks).temperature is None
    chosen = StudentConfig(labels="stored", temperature=5.0, partition=False).asked(asks)
    assert chosen.temperature == 5 and chosen.partition is False
    plain = StudentConfig().asked({})
    assert (plain.labels, plain.cutmix, plain.temperature) == ("online", True, None)


def test_a_set_may_ask_for_labels_and_no_cutmix():
    asks = {"temperature": 1.0, "partition": True, "labels": "stored", "cutmix": False}
    asked = StudentConfig().asked(asks)
    assert (asked.labels, asked.cutmix, asked.temperature) == ("stored", False, 1.0)
    chosen = StudentConfig(labels="hard", cutmix=True).asked(asks)
    assert (chosen.labels, chosen.cutmix, chosen.temperature) == ("hard", True, None)
    beside = StudentConfig().like(asks)  # of another set: neither its tiles nor its temperature
    assert beside == StudentConfig(labels="stored", cutmix=False)
