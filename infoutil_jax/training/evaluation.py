"""Accuracy and calibration on real test images (forward passes in JAX, figures in NumPy)."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from infoutil_jax.blocks import each_block
from infoutil_jax.data.augment import Normalisation
from infoutil_jax.data.streamed import Pixels
from infoutil_jax.image.resampling import resized
from infoutil_jax.training.classifier import Classifier
from infoutil_jax.training.labelled import Labelled

BATCH = 256
"""Images at once, unless something else is asked for."""

TestView = Literal["whole", "centre"]
"""What of a test image a model sees: all of it, or its centre, enlarged."""


class Metrics(NamedTuple):
    """Figures of one model on one test set.

    Attributes:
        top1: accuracy, percent.
        top5: share of images with their label among the five largest logits, percent; among all
            of them where there are fewer classes.
        ece: expected calibration error with 15 bins, 0 to 1.
        confusion: images by their class (row) and the class that they were taken for (column).
        reliability: of each of the 15 bins of confidence how many images it has, the sum of their
            confidence, and how many were right.
    """

    top1: float
    top5: float
    ece: float
    confusion: Int[np.ndarray, "classes classes"]
    reliability: Float[np.ndarray, "bins 3"]


def top_k(logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], k: int) -> float:
    """Percentage of examples whose label is among the `k` largest logits.

    Ties count against the model: a constant output is right on nothing unless k covers every
    class. NaN logits are right on nothing.

    Args:
        logits: or probabilities.
        labels: 0 to classes - 1.
        k: where it exceeds the number of classes, all classes.
    """
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    ahead = (~(logits < own)).sum(1) - 1
    right = (ahead < min(k, logits.shape[1])) & ~np.isnan(logits).any(1)
    return float(100 * np.mean(right))


def balanced_accuracy(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> float:
    """Mean over the classes that occur of top-1, percent: 100 / classes for a constant answer."""
    return float(np.mean([top_k(logits[labels == c], labels[labels == c], 1) for c in set(labels)]))


def expected_calibration_error(
    probabilities: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], bins: int = 15
) -> float:
    """Mean distance of confidence and accuracy (Guo et al. 2017, eq. 3), 0 to 1.

    Examples are sorted into equally wide bins of confidence, the largest probability, each open
    below and closed above; the distances within bins are weighted by their number of examples.

    Args:
        probabilities: rows sum to one.
        labels: 0 to classes - 1.
        bins: number of bins.
    """
    table = reliability(probabilities, labels, bins)
    return float(np.abs(table[:, 2] - table[:, 1]).sum() / len(labels))


def reliability(
    probabilities: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"], bins: int = 15
) -> Float[np.ndarray, "bins 3"]:
    """Counts, summed confidences and right answers by bin (Guo et al. 2017, section 2).

    Args:
        probabilities: rows sum to one.
        labels: 0 to classes - 1.
        bins: of equal width, each open below and closed above.
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = (probabilities.argmax(1) == labels).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    columns = (np.ones(len(labels)), confidence, right)
    return np.stack([np.bincount(index, values, bins) for values in columns], 1)


def confusion(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> Int[np.ndarray, "classes classes"]:
    """Number of examples by their class (row) and the class of their largest logit (column)."""
    classes = logits.shape[1]
    pairs = labels.astype(np.int64) * classes + logits.argmax(1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def balanced_of(confusion: Int[np.ndarray, "classes classes"]) -> float:
    """`balanced_accuracy` of a confusion matrix, percent: the mean of each class's share right."""
    of_class = confusion.sum(1)
    return float(100 * (confusion.diagonal()[of_class > 0] / of_class[of_class > 0]).mean())


def view(
    images: UInt8[Array, "batch height width channels"],
    size: tuple[int, int],
    kind: TestView,
) -> UInt8[Array, "batch out_height out_width channels"]:
    """Test images as a model sees them.

    "whole": resized to the input size, hence as they are where they have it.

    "centre": resized to 8/7 of the input size, then the centre of the input size. 8/7 in RDED's
    integers, `size // 7 * 8`: 32 stays 32, 64 becomes 72, 128 becomes 144 and 224 becomes 256.
    Images that are stored at the input size are hence enlarged: that suits a model that was trained
    on random-resized crops, in which things look larger (Touvron et al., NeurIPS 2019), and no
    other.

    Args:
        images: pixels.
        size: height and width of the model's input.
        kind: which of the two.
    """
    enlarged = [side if kind == "whole" else max(side, side // 7 * 8) for side in size]
    if images.shape[1:3] == size == tuple(enlarged):
        return images
    large = resized(images.astype(jnp.float32), (enlarged[0], enlarged[1]))
    top, left = ((more - side) // 2 for more, side in zip(enlarged, size, strict=True))
    centre = large[:, top : top + size[0], left : left + size[1]]
    return jnp.clip(jnp.round(centre), 0, 255).astype(jnp.uint8)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _logits(
    predict: Callable[..., Array],
    size: tuple[int, int] | None,
    kind: TestView,
    variables: Any,
    normalise: Normalisation,
    images: Array,
) -> Array:
    size = size or (images.shape[1], images.shape[2])
    return predict(variables, normalise(view(images, size, kind)))


def model_logits(
    classifier: Classifier,
    images: UInt8[Pixels, "n height width channels"],
    *,
    image_size: tuple[int, int] | None = None,
    test_view: TestView = "whole",
    batch_size: int = BATCH,
) -> Float[np.ndarray, "n classes"]:
    """Logits of images, as they are or in another view (see `view`).

    Args:
        classifier: a teacher, say.
        images: pixels; of none there are no logits.
        image_size: height and width of the classifier's input; None: the images' own.
        test_view: all of each image, or its centre.
        batch_size: images at once.
    """
    logits = partial(
        _logits,
        classifier.predict,
        image_size,
        test_view,
        classifier.variables,
        classifier.normalisation,
    )
    return each_block(logits, images, batch_size)


def evaluate(
    classifier: Classifier,
    test: tuple[UInt8[Pixels, "n height width channels"], Int[np.ndarray, " labels"]],
    *,
    image_size: tuple[int, int] | None = None,
    test_view: TestView = "whole",
    batch_size: int = BATCH,
) -> Metrics:
    """Accuracy and calibration of a classifier on test images.

    Args:
        classifier: a teacher, say.
        test: images and labels, as `Labelled`.
        image_size: height and width of the classifier's input; None: the images' own.
        test_view: all of each image, or its centre.
        batch_size: images at once.

    Raises:
        InputError: no images, or labels that do not fit images or logits.
    """
    test = Labelled(*test)
    test.check(np.iinfo(np.int32).max, "test")
    images, labels = test
    logits = model_logits(
        classifier,
        images,
        image_size=image_size,
        test_view=test_view,
        batch_size=min(batch_size, len(images)),
    )
    test.check(logits.shape[1], "test")
    shifted = np.exp(logits - logits.max(1, keepdims=True), dtype=np.float64)
    probabilities = shifted / shifted.sum(1, keepdims=True)
    return Metrics(
        top_k(logits, labels, 1),
        top_k(logits, labels, 5),
        expected_calibration_error(probabilities, labels),
        confusion(logits, labels),
        reliability(probabilities, labels),
    )
