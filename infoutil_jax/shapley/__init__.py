"""Cooperative games and their Shapley values, from few coalitions.

Here live coalition designs, estimators and the protocols of a game. A game is any function of
coalitions: nothing in this room reads an image, a network or a data set. Players may lie on a grid,
near ones alike, and games be like those that were played: that is the prior of the "gaussian"
designs (`prior`). Designs are made once, in float64 NumPy on the host; estimates are JAX.

    design = coalition_design(num_players, budget)
    phi = shapley_values(game, design)
"""

from infoutil_jax.shapley.estimate import (
    CoalitionDesign,
    Game,
    coalition_design,
    exact_shapley,
    kernel_shap,
    shapley_values,
)
from infoutil_jax.shapley.fitted_prior import fitted_prior, pilot_coalitions
from infoutil_jax.shapley.prior import GRID_PRIOR, Examples, Prior
from infoutil_jax.shapley.staged import CONFIDENCE, GameBatch, staged_shapley
from infoutil_jax.shapley.staged_design import StagedDesign, half_of, staged_design

__all__ = [
    "CONFIDENCE",
    "GRID_PRIOR",
    "CoalitionDesign",
    "Examples",
    "Game",
    "GameBatch",
    "Prior",
    "StagedDesign",
    "coalition_design",
    "exact_shapley",
    "fitted_prior",
    "half_of",
    "kernel_shap",
    "pilot_coalitions",
    "shapley_values",
    "staged_design",
    "staged_shapley",
]
