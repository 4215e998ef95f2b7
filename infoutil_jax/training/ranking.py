"""Scores that part the images' merit from that of labels and augmentation (host).

DD-Ranking (Li et al. 2025, arXiv 2505.13300). Accuracies go in as fractions; scores come out
between 0 and 1, `(e^x - 1/e) / (e - 1/e)` of a mean x of differences of accuracies, so that no
difference at all is 0.269.
"""

import math

from infoutil_jax.errors import InputError


def label_robust_score(
    full_hard: float,
    distilled_hard: float,
    distilled: float,
    random: float,
    *,
    weight: float = 0.5,
) -> float:
    """LRS: what the images are worth without the help of soft labels.

    x = weight · IOR - (1 - weight) · HLR. HLR, hard label recovery, is what hard labels on the
    distilled images fall short of training on everything; IOR, improvement over random, is what
    the distilled images gain over random ones under the method's own labels.

    Args:
        full_hard: training on everything with hard labels, 0 to 1.
        distilled_hard: on the distilled images with hard labels.
        distilled: on the distilled images with the method's labels.
        random: on as many random images with the same labels.
        weight: of IOR, 0 to 1.

    Raises:
        InputError: an accuracy or the weight is outside 0 to 1.
    """
    _check(full_hard, distilled_hard, distilled, random, weight)
    return _score(weight * (distilled - random) - (1 - weight) * (full_hard - distilled_hard))


def augmentation_robust_score(
    distilled: float,
    random: float,
    distilled_plain: float,
    random_plain: float,
    *,
    weight: float = 0.5,
) -> float:
    """ARS: what the images are worth without the help of augmentation.

    x = weight · (gain over random images with augmentation) + (1 - weight) · (gain without).

    Args:
        distilled: on the distilled images, with augmentation, 0 to 1.
        random: on as many random images, likewise.
        distilled_plain: on the distilled images, without augmentation.
        random_plain: on the random ones, likewise.
        weight: of the first gain, 0 to 1.

    Raises:
        InputError: an accuracy or the weight is outside 0 to 1.
    """
    _check(distilled, random, distilled_plain, random_plain, weight)
    return _score(weight * (distilled - random) + (1 - weight) * (distilled_plain - random_plain))


def _score(x: float) -> float:
    return (math.exp(x) - math.exp(-1)) / (math.e - math.exp(-1))


def _check(*fractions: float) -> None:
    for value in fractions:
        if not 0 <= value <= 1:
            raise InputError(f"{value} is no fraction; accuracies and the weight lie in 0 to 1")
