"""Refinement: from choosing pixels to improving them (JAX).

A recipe's optional last part: `dataclasses.replace(infoutil(), refine=Refiner(...))`. One loop and
one differentiable view serve all objectives.
"""

from infoutil_jax.data.siamese import Siamese
from infoutil_jax.refine.contracts import Batch, Network, Objective, Step, Synthetic
from infoutil_jax.refine.matching import DistributionMatching
from infoutil_jax.refine.recipes import REFINERS, infoutil_refined
from infoutil_jax.refine.refiner import Refiner
from infoutil_jax.refine.regression import KernelRegression, NeuralFeatureRegression
from infoutil_jax.refine.trajectories import TrajectoryMatching

__all__ = [
    "REFINERS",
    "Batch",
    "DistributionMatching",
    "KernelRegression",
    "Network",
    "NeuralFeatureRegression",
    "Objective",
    "Refiner",
    "Siamese",
    "Step",
    "Synthetic",
    "TrajectoryMatching",
    "infoutil_refined",
]
