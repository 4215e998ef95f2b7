"""A result as a run writes it."""

import pytest

from experiments import store


@pytest.fixture
def result():
    def result(row, budget, top1, teacher="a", labels=100, set_seed=0):
        return {
            "arguments": {"set_seed": set_seed, "pool": 300},
            "dataset": "CIFAR-10",
            "cell": {"row": {"name": row}, "images_per_class": budget},
            "student": {"top1_mean": top1, "top1_std": None if budget == 50 else 1.0},
            "teacher_digest": {"converged": teacher},
            "teacher_top1": {"early": 60.0, "converged": 70.0},
            "teacher_calibration": {"early": {"ece": 0.02, "entropy": 1.0}},
            "distill_seconds": 12.3,
            "labels_agree": 0.4,
            "teacher_options": {"backbone": "convnet3"},
            "reduced": None,
            "hardware": {"device": "cpu"},
            "storage": {"images": 2000, "labels": labels},
        }

    return result


@pytest.fixture
def write():
    def write(folder, *results):
        for one in results:
            store.add_cell(folder, one)

    return write
