"""Families of backbones as a teacher that distils and labels, and as a student of it.

ConvNets go through the whole pipeline in other tests. `pytest -m slow` has the families that XLA
takes a minute or more to compile.
"""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from infoutil_jax import models
from infoutil_jax.data.sources import open_source
from infoutil_jax.distillation import DistillConfig, distill
from infoutil_jax.method.recipes import infoutil_paper
from infoutil_jax.method.shapley_maps import ShapleyConfig
from infoutil_jax.training.config import StudentConfig
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision
from infoutil_jax.training.teacher import Teacher

PHOTOS = Path(__file__).parents[1] / "fixtures" / "imagenette"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"width": 8}),
        pytest.param("resnet50", {"width": 8}, marks=pytest.mark.slow),
        pytest.param("resnet101", {"width": 8}, marks=pytest.mark.slow),
        pytest.param("vgg11_bn", {}, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", {}, marks=pytest.mark.slow),
        pytest.param("swin_v2_t", {}, marks=pytest.mark.slow),
    ],
)
def test_it_distils_labels_and_trains(name, options, tmp_path):
    source = open_source(f"folder:{PHOTOS}", image_size=32)
    classes = len(source.class_names)
    module = models.create(
        name, num_classes=classes, image_size=32, rngs=nnx.Rngs(0), dtype="bfloat16", **options
    )
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    predict, variables = models.as_predict(module)
    # Untrained, a deep network's logits are in the thousands, and it is sure of a class.
    largest = np.abs(jax.jit(predict)(variables, np.ones((1, 32, 32, 3), np.float32))).max()

    def mild(variables, images):
        return predict(variables, images) / max(1, largest)

    teacher = Teacher(mild, variables, mean=mean, std=std, image_size=(32, 32))
    distilled = distill(
        source,
        teacher,
        infoutil_paper(shapley=ShapleyConfig(budget=20), num_crops=2),
        images_per_class=1,
        workdir=tmp_path / "set",
        config=DistillConfig(batch_size=3, progress=False),
    )
    distilled.verify()
    tiles = [record["tiles"][0] for record in distilled.records]
    assert all(tile["score"] > 0 and np.ptp(tile["map"]) > 0 for tile in tiles)
    result = train_student(
        (distilled.images, distilled.labels),
        source.test.arrays(),
        StudentConfig(backbone=name, dtype="bfloat16", epochs=2, seeds=(0,), **options),
        supervision=Supervision(num_classes=classes, teacher=teacher),
    )
    assert np.isfinite(result.loss).all() and np.ptp(result.loss) > 0
