"""Shapley maps from a configuration, as a recipe's `attribute`. JAX; designs are made once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from infoutil_jax import ranges
from infoutil_jax.errors import InputError
from infoutil_jax.image.grid import both
from infoutil_jax.method.attribution import Images, Labels, Maps
from infoutil_jax.method.contracts import Predict
from infoutil_jax.method.patch_game import (
    MASKED_BATCH,
    OUTPUTS,
    Output,
    PatchGame,
    computing_in,
    patch_game,
)
from infoutil_jax.shapley import (
    CONFIDENCE,
    CoalitionDesign,
    Prior,
    StagedDesign,
    coalition_design,
    fitted_prior,
    half_of,
    pilot_coalitions,
    shapley_values,
    staged_design,
    staged_shapley,
)

Strategy = Literal["gaussian", "leverage", "kernel"]

LARGEST_BASELINE = 64
"""Numbers of a baseline that a config holds."""

PILOT_COALITIONS = 256
"""Of each image that a prior is fitted to."""

STEP = 4
"""Coalitions after which an image's confidence is looked at again."""


@dataclass(frozen=True)
class ShapleyConfig:
    """How Shapley maps are estimated.

    Attributes:
        grid: patches a side, or (rows, columns): the players of the game (paper: 4).
        budget: at most this many coalitions per image.
        strategy: "gaussian", "leverage" or "kernel" (Lundberg & Lee, as in the paper).
        confidence: an image is done once its best window is the right one with this probability,
            0 to 1; at 1 all take the whole budget. Only "gaussian" knows it.
        window: patches that will be cut out, a side or (rows, columns); by default half the grid.
        dtype: precision of the coalitions' forward passes; None is the teacher's own.
        output: value of a coalition: "logit", "probability", "log_probability" or a function.
        baseline: what an absent patch shows (paper: 0, the mean colour): a number, a colour, or a
            function of the images.
        batch_size: masked images in flight at once.
        seed: of the draw of coalitions.
        pilot: images of a pool whose games tell "gaussian" which games this teacher plays (see
            `fitted_prior`), before the pool is attributed; 0 keeps the prior of other networks.

    Raises:
        InputError: a budget below what the strategy needs, a `confidence` out of range, a window
            that does not fit the grid, or an unknown output.
    """

    grid: int | tuple[int, int] = 4
    budget: int = 256
    strategy: Strategy = "gaussian"
    confidence: float = CONFIDENCE
    window: int | tuple[int, int] | None = None
    dtype: Literal["float32", "bfloat16"] | None = None
    output: str | Output = "logit"
    baseline: Any = 0.0
    batch_size: int = MASKED_BATCH
    seed: int = 0
    pilot: int = 32

    def __post_init__(self) -> None:
        ranges.check(self)
        if isinstance(self.output, str) and self.output not in OUTPUTS:
            raise InputError(
                f"unknown output {self.output!r}: choose {', '.join(OUTPUTS)} or a function."
            )
        if isinstance(self.baseline, np.ndarray | jax.Array):
            if self.baseline.size > LARGEST_BASELINE:
                raise InputError(
                    f"baseline is an array of shape {self.baseline.shape}; a config holds a "
                    "number, a colour or a function of the images: give a function that returns it"
                )
            object.__setattr__(self, "baseline", _as_tuples(self.baseline.tolist()))
        (rows, columns), window = both(self.grid), self.window
        height, width = half_of((rows, columns)) if window is None else both(window)
        if not (1 <= height <= rows and 1 <= width <= columns):
            raise InputError(
                f"the window {height}x{width} does not fit a map of {rows}x{columns} patches"
            )
        # A bad budget is told before any work.
        if not self.staged:
            self.design()
        elif self.budget < 2:
            raise InputError(f"budget is {self.budget}; give at least 2 coalitions")

    @property
    def staged(self) -> bool:
        """Whether images are done at different times."""
        return self.strategy == "gaussian" and self.confidence < 1

    def design(self, prior: Prior | None = None) -> CoalitionDesign:
        """The coalitions of every image; made once for equal arguments."""
        return _design(both(self.grid), self.budget, self.strategy, self.seed, prior)

    def staged_design(self, prior: Prior | None = None) -> StagedDesign:
        """The coalitions in stages that fit batch and budget; made once for equal arguments."""
        step = max(2, min(STEP, self.batch_size // 2 * 2, self.budget // 2 * 2))
        return _staged_design(both(self.grid), self.budget, self.window, step, self.seed, prior)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


@lru_cache(maxsize=32)
def _design(
    grid: tuple[int, int], budget: int, strategy: str, seed: int, prior: Prior | None
) -> CoalitionDesign:
    return coalition_design(
        grid[0] * grid[1], budget, strategy=strategy, seed=seed, grid=grid, prior=prior
    )


@lru_cache(maxsize=32)
def _staged_design(
    grid: tuple[int, int], budget: int, window: Any, step: int, seed: int, prior: Prior | None
) -> StagedDesign:
    return staged_design(grid, budget, window=window, step=step, seed=seed, prior=prior)


def _game(
    config: ShapleyConfig, predict: Predict, variables: Any, images: Images, labels: Labels | None
) -> PatchGame:
    return patch_game(
        predict if config.dtype is None else computing_in(predict, config.dtype),
        variables,
        images,
        labels,
        grid=config.grid,
        baseline=config.baseline,
        output=config.output,
        batch_size=config.batch_size,
    )


@partial(jax.jit, static_argnums=(0, 1))
def _differences(
    config: ShapleyConfig,
    predict: Predict,
    variables: Any,
    images: Images,
    labels: Labels | None,
    masks: Array | np.ndarray,
) -> Float[Array, "images pairs"]:
    """What each coalition is worth more than its complement."""
    game = _game(config, predict, variables, images, labels)
    worth: Float[Array, "images pairs"] = (game(masks) - game(~masks)).T
    return worth


@dataclass(frozen=True)
class ShapleyMaps:
    """Shapley values of patches, as a recipe's `attribute`.

    Attributes:
        config: how they are estimated.
        prior: which games "gaussian" expects; None is one of other networks.
    """

    config: ShapleyConfig = field(default_factory=ShapleyConfig)
    prior: Prior | None = None

    @property
    def pilot(self) -> int:
        """How many images `fitted` wants."""
        needed = self.config.strategy == "gaussian" and self.prior is None
        return self.config.pilot if needed else 0

    def fitted(
        self, predict: Predict, variables: Any, images: Images, labels: Labels | None, /
    ) -> ShapleyMaps:
        """The same maps, under the prior that suits these images' games best (host).

        Args:
            predict: the classifier.
            variables: its variables.
            images: normalised.
            labels: their classes; None for the largest logit of each.
        """
        grid = both(self.config.grid)
        masks = pilot_coalitions(grid[0] * grid[1], PILOT_COALITIONS, self.config.seed)
        differences = _differences(self.config, predict, variables, images, labels, masks)
        return replace(self, prior=fitted_prior(np.asarray(differences), masks, grid))

    def prepared(self) -> DesignedMaps:
        """The same, its coalitions chosen (host)."""
        config = self.config
        design = config.staged_design if config.staged else config.design
        return DesignedMaps(design(self.prior), config)

    def __call__(
        self,
        predict: Predict,
        variables: Any,
        images: Images,
        labels: Labels | None,
        keys: Key[Array, " batch"] | None = None,
        /,
    ) -> Maps:
        """One value a patch; `keys` is not used, for the design leaves nothing to chance."""
        return self.prepared()(predict, variables, images, labels)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DesignedMaps:
    """`ShapleyMaps` whose coalitions are chosen: a pytree.

    Attributes:
        design: the coalitions, and what is made of their values.
        config: how else the values are estimated.
    """

    design: CoalitionDesign | StagedDesign
    config: ShapleyConfig = field(metadata={"static": True})

    def __call__(
        self,
        predict: Predict,
        variables: Any,
        images: Images,
        labels: Labels | None,
        keys: Key[Array, " batch"] | None = None,
        /,
    ) -> Maps:
        """As `ShapleyMaps`."""
        config, design = self.config, self.design
        game = _game(config, predict, variables, images, labels)
        if isinstance(design, CoalitionDesign):
            return shapley_values(game, design).T.reshape(len(game), *game.grid)
        at_once = max(1, config.batch_size // (2 * design.half))
        phi, _ = staged_shapley(game, design, confidence=config.confidence, at_once=at_once)
        return phi.reshape(len(game), *game.grid)
