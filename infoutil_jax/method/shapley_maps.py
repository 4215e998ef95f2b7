"""Shapley maps from plain arguments, as a recipe's `attribute`: designs are made once and kept."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from infoutil_jax.method import attribution
from infoutil_jax.method.patch_games import computing_in
from infoutil_jax.method.shapley import CoalitionDesign, coalition_design
from infoutil_jax.method.staged import StagedDesign, staged_design, staged_shapley

STEP = 16
"""Coalitions after which `sure` is asked again."""


@lru_cache(maxsize=32)
def design_once(
    grid: tuple[int, int], budget: int, strategy: str, seed: int = 0
) -> CoalitionDesign:
    """`coalition_design` of these arguments, made once."""
    return coalition_design(grid[0] * grid[1], budget, strategy=strategy, seed=seed, grid=grid)


@lru_cache(maxsize=32)
def staged_once(
    grid: tuple[int, int], budget: int, window: Any, batch_size: int, seed: int = 0
) -> StagedDesign:
    """`staged_design` of these arguments, made once, in stages that fit batch and budget."""
    step = max(2, min(STEP, batch_size // 2 * 2, -(-budget // 2) * 2))
    return staged_design(grid, budget, window=window, step=step, seed=seed)


def shapley_maps(
    predict,
    variables,
    images,
    labels,
    keys=None,
    *,
    grid: int | tuple[int, int] = 4,
    budget: int = 128,
    strategy: str = "gaussian",
    design_seed: int = 0,
    sure: float | None = None,
    window: int | tuple[int, int] | None = None,
    dtype: str | None = None,
    baseline: Any = 0.0,
    output: Any = "logit",
    batch_size: int = 256,
):
    """`attribution.patch_shapley` with its design made from arguments, as `Recipe.attribute`.

    `dtype` is the precision of the forward passes (`patch_games.computing_in`). With `sure` it is
    `staged.staged_shapley`, for the window that will be cut out; the strategy is then "gaussian".

    Raises:
        InputError: as `coalition_design` and `patch_shapley`, or their staged versions.
    """
    grid_h, grid_w = (grid, grid) if isinstance(grid, int) else grid
    if dtype is not None:
        predict = computing_in(predict, dtype)
    if sure is not None:
        maps, _ = staged_shapley(
            predict,
            variables,
            images,
            labels,
            staged_once((grid_h, grid_w), budget, window, batch_size, design_seed),
            grid=grid,
            sure=sure,
            baseline=baseline,
            output=output,
            batch_size=batch_size,
        )
        return maps
    design = design_once((grid_h, grid_w), budget, strategy, design_seed)
    return attribution.patch_shapley(
        predict,
        variables,
        images,
        labels,
        design,
        grid=grid,
        baseline=baseline,
        output=output,
        batch_size=batch_size,
    )
