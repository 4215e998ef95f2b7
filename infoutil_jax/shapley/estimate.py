"""Shapley values from the values of some coalitions.

Every estimator here is linear in the evaluated coalitions' values, `phi = operator @ values`. The
coalitions and the operator do not depend on the game: `coalition_design` computes them once, on
the host, in float64 NumPy. `shapley_values` is JAX: one call of the value function, one matmul.

Which strategy:
    gaussian: Bayesian quadrature; the default. Of all here it errs least on games of image patches,
        at every budget. Where players lie on a grid, give it: neighbours then act together.
    leverage: Musco & Witter, "Provably accurate Shapley value estimation via leverage score
        sampling", ICLR 2025, arXiv 2410.01917.
    kernel: KernelSHAP, Lundberg & Lee, "A unified approach to interpreting model predictions",
        NeurIPS 2017, Theorem 2; coalitions are drawn as the shap library does.

In all three a coalition is evaluated with its complement: the Shapley value depends on
`v(S) - v(complement of S)` only, so a pair removes half of the noise. An odd budget leaves one
coalition single.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from infoutil_jax.errors import InputError
from infoutil_jax.shapley import coalitions
from infoutil_jax.shapley.bayesian_quadrature import gaussian
from infoutil_jax.shapley.prior import Prior

Game = Callable[
    [Bool[Array, " coalitions players"]], Float[Array | np.ndarray, " coalitions *outputs"]
]
"""What coalitions are worth: masks `[k, players]` -> values `[k, *outputs]`."""

STRATEGIES: dict[str, coalitions.Strategy] = {
    "gaussian": gaussian,
    "leverage": coalitions.leverage,
    "kernel": coalitions.kernel,
}

MAX_EXACT_PLAYERS = 20
"""Enumeration beyond this many players (1,048,576 coalitions) is refused."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class CoalitionDesign:
    """Coalitions to evaluate, and the matrix that turns their values into Shapley values.

    A pytree of two arrays, so it can be an argument of a jitted function; being compared by
    identity it can be a static argument or a closure, too.

    Attributes:
        masks: which players each coalition holds, all rows distinct; row 0 is the empty
            coalition, row 1 the full one.
        operator: `phi = operator @ values`. Every column sums to zero but those of the full (1)
            and the empty coalition (-1), which is efficiency: sum(phi) = v(all) - v(none). Every
            row sums to zero: a constant added to the game changes nothing.

    Raises:
        InputError: the shapes disagree, row 0 or 1 is not as said, or efficiency does not hold.
    """

    masks: Bool[np.ndarray | Array, "coalitions players"]
    operator: Float[np.ndarray | Array, "players coalitions"]

    def __post_init__(self) -> None:
        # Inside jit the fields are tracers; what was checked outside needs no second look.
        if not (isinstance(self.masks, np.ndarray) and isinstance(self.operator, np.ndarray)):
            return
        if self.operator.shape != self.masks.shape[::-1]:
            raise InputError(
                f"operator has shape {self.operator.shape}; masks of shape {self.masks.shape} "
                f"need {self.masks.shape[::-1]}"
            )
        if len(self.masks) < 2 or self.masks[0].any() or not self.masks[1].all():
            raise InputError("masks must begin with the empty coalition, then the full one")
        total = self.operator.sum(0, dtype=np.float64)
        total[:2] -= (-1.0, 1.0)
        excess = np.abs(total) / (1 + np.abs(self.operator).sum(0))
        if not excess.max() <= 1e-5:
            worst = int(np.argmax(excess))
            raise InputError(
                f"operator breaks efficiency at coalition {worst}: its column's sum is off by "
                f"{total[worst]:.3g}; columns must sum to -1 (empty), 1 (full) and 0 (others)"
            )


def exact_shapley(value_fn: Game, num_players: int) -> Float[Array, " players *outputs"]:
    """Shapley values from all `2**num_players` coalitions.

    Args:
        value_fn: maps masks `[k, num_players]` to values `[k, *outputs]`; it is called once with
            every coalition.
        num_players: 1 to 20.

    Returns:
        The Shapley value of each player, `[num_players, *outputs]`.

    Raises:
        InputError: more than 20 players, or fewer than one.
    """
    _check_players(num_players)
    if num_players > MAX_EXACT_PLAYERS:
        raise InputError(
            f"exact_shapley enumerates 2**num_players coalitions, num_players is {num_players}; "
            f"use at most {MAX_EXACT_PLAYERS}, or shapley_values with a coalition_design"
        )
    return shapley_values(value_fn, _exact_design(num_players))


def coalition_design(
    num_players: int,
    budget: int,
    *,
    strategy: str = "gaussian",
    seed: int = 0,
    grid: int | tuple[int, int] | None = None,
    prior: Prior | None = None,
) -> CoalitionDesign:
    """Chooses coalitions and computes the matrix of the estimator; NumPy on the host.

    The same arguments give the same bytes. A budget of `2**num_players` or more returns all
    coalitions and the exact operator, whatever the strategy; a smaller one gives `budget` rows.

    Args:
        num_players: 1 or more; 196 players (a 14×14 grid) work.
        budget: evaluated coalitions, the empty and the full one included. "gaussian" needs 2,
            "kernel" and "leverage" need `2 * num_players`: a pair tells one linear combination
            of the players, and efficiency another. Where a draw leaves players
            indistinguishable nevertheless, they share their surplus (minimum norm).
        strategy: "gaussian", "leverage" or "kernel"; see the module's docstring.
        seed: of the draw of coalitions, 0 or more.
        grid: where the players lie on a grid, row by row: players a side, or (rows, columns).
            "gaussian" then expects neighbours to act together; the others ignore it.
        prior: which games "gaussian" expects, such as `fitted_prior` returns; None is one that
            suits many, with a grid one of convolutional networks.

    Returns:
        The design, for `shapley_values`.

    Raises:
        InputError: an unknown strategy, a budget below its need, or a bad number.
    """
    _check_players(num_players)
    grid = (grid, grid) if isinstance(grid, int) else grid
    if grid is not None and (min(grid) < 1 or grid[0] * grid[1] != num_players):
        raise InputError(f"a grid of {grid[0]}x{grid[1]} does not hold {num_players} players")
    if strategy not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise InputError(f"strategy is {strategy!r}; choose one of {known}")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    if budget >= 2**num_players:
        return _exact_design(num_players)
    need = 2 if strategy == "gaussian" else 2 * num_players
    if budget < need:
        raise InputError(
            f"budget is {budget} coalitions; strategy {strategy!r} needs at least {need} for "
            f"{num_players} players"
        )
    rng = np.random.default_rng(seed)
    draw = STRATEGIES[strategy]
    if strategy == "gaussian":
        draw = partial(gaussian, grid=grid, prior=prior)
    masks, operator = draw(rng, num_players, budget)
    return CoalitionDesign(masks, operator.astype(np.float32))


def shapley_values(value_fn: Game, design: CoalitionDesign) -> Float[Array, " players *outputs"]:
    """Shapley values estimated from the design's coalitions; traceable under `jax.jit`.

    Args:
        value_fn: maps masks `[k, num_players]` to values `[k, *outputs]`; it is called once.
        design: from `coalition_design`.

    Returns:
        An estimate for each player and output, `[num_players, *outputs]`, float32 or wider. It
        sums over players to v(all) - v(none). A value that is NaN or infinite leaves none of its
        output's estimates finite.

    Raises:
        InputError: value_fn does not return one value (or array) a coalition.
    """
    masks = jnp.asarray(design.masks)
    values = jnp.asarray(value_fn(masks))
    if values.ndim == 0 or values.shape[0] != masks.shape[0]:
        raise InputError(
            f"value_fn returned shape {values.shape} for {masks.shape[0]} coalitions; it must "
            f"return one row a coalition, [{masks.shape[0]}, ...]"
        )
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    # The operator's rows sum to zero; subtracting v(none) first spares float32 a cancellation.
    return jnp.tensordot(
        jnp.asarray(design.operator),
        values - values[0],
        axes=1,
        precision=jax.lax.Precision.HIGHEST,
    )


def kernel_shap(
    value_fn: Game, num_players: int, budget: int, *, seed: int = 0
) -> Float[Array, " players *outputs"]:
    """KernelSHAP: `shapley_values` on a "kernel" design.

    Lundberg & Lee, NeurIPS 2017. The budget counts the empty and the full coalition, which shap's
    `nsamples` does not: `budget = nsamples + 2`. See `coalition_design` for arguments and errors.
    """
    design = coalition_design(num_players, budget, strategy="kernel", seed=seed)
    return shapley_values(value_fn, design)


def _check_players(num_players: int) -> None:
    if num_players < 1:
        raise InputError(f"num_players is {num_players}; a game needs at least 1 player")


def _exact_design(num_players: int) -> CoalitionDesign:
    masks, operator = coalitions.exact(num_players)
    return CoalitionDesign(masks, operator.astype(np.float32))
