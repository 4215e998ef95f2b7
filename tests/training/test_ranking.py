"""DD-Ranking's scores: their definitions by hand, their range and what they reward."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoutil_jax.errors import InputError
from infoutil_jax.training.ranking import augmentation_robust_score, label_robust_score

fractions = st.floats(0, 1)


def score(x):
    return (math.exp(x) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def test_by_hand():
    # HLR 0.8 - 0.3 = 0.5, IOR 0.6 - 0.4 = 0.2: x = 0.5 * 0.2 - 0.5 * 0.5 = -0.15
    assert label_robust_score(0.8, 0.3, 0.6, 0.4) == pytest.approx(score(-0.15))
    assert label_robust_score(0.8, 0.3, 0.6, 0.4, weight=1.0) == pytest.approx(score(0.2))
    # gains 0.2 and 0.1: x = 0.15
    assert augmentation_robust_score(0.6, 0.4, 0.3, 0.2) == pytest.approx(score(0.15))
    assert augmentation_robust_score(0.6, 0.4, 0.3, 0.2, weight=0.0) == pytest.approx(score(0.1))


def test_random_images_that_recover_nothing_score_as_the_definition_says():
    assert augmentation_robust_score(0.5, 0.5, 0.2, 0.2) == pytest.approx(1 / (math.e + 1))


@given(fractions, fractions, fractions, fractions)
def test_between_zero_and_one_and_rising_with_the_methods_accuracy(a, b, c, d):
    assert 0 <= label_robust_score(a, b, c, d) <= 1
    assert 0 <= augmentation_robust_score(a, b, c, d) <= 1
    assert label_robust_score(a, 1.0, 1.0, d) >= label_robust_score(a, b, c, d)


@pytest.mark.parametrize("wrong", [-0.1, 56.8, float("nan")])
def test_percentages_are_told_from_fractions(wrong):
    with pytest.raises(InputError, match="no fraction"):
        label_robust_score(0.8, wrong, 0.6, 0.4)
