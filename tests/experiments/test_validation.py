"""Choices are made on images that nothing else sees."""

from experiments.datasets import validating
from experiments.run import Experiment


def test_a_share_of_the_training_images_of_each_class_is_validated_on(digits):
    chosen = validating(digits)
    train, test = set(chosen.train.ids), set(chosen.test.ids)
    assert train | test == set(digits.train.ids) and not train & test
    for label in range(10):
        count = (digits.train.labels == label).sum()
        assert (chosen.test.labels == label).sum() == round(0.2 * count)
    assert chosen.fingerprint() != digits.fingerprint()
    assert validating(digits).fingerprint() == chosen.fingerprint()
    assert validating(digits, seed=1).test.ids != chosen.test.ids


def test_its_results_and_teachers_lie_apart():
    one = Experiment("recommended", dataset="digits", reduced=True, validation=True)
    assert one.folder == "validation/digits_convnet3_reduced"
