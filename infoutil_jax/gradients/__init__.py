"""Gradients of single examples: their norms, and what leaving an example out does to training.

Here lives what is true of any loss `(params, example) -> scalar`, whoever wrote the model. Nothing
in this room knows of images, networks or data sets. JAX.

    norms = gradient_norms(loss_fn, params, batch)
"""

from infoutil_jax.gradients.bound import utility_bound
from infoutil_jax.gradients.exact_utility import (
    changes_of_gradients,
    exact_utilities,
    example_gradients,
    loss_rate_changes,
)
from infoutil_jax.gradients.linear_layers import norm, register_linear
from infoutil_jax.gradients.norms import Structure, gradient_norms

__all__ = [
    "Structure",
    "changes_of_gradients",
    "exact_utilities",
    "example_gradients",
    "gradient_norms",
    "loss_rate_changes",
    "norm",
    "register_linear",
    "utility_bound",
]
