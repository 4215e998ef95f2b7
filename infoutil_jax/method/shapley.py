"""Shapley values of cooperative games, from few coalitions.

Every estimator here is linear in the evaluated coalitions' values, `phi = operator @ values`. The
coalitions and the operator do not depend on the game: `coalition_design` computes them once, on
the host, in float64 NumPy. `shapley_values` is JAX: one call of the value function, one matmul.

Which strategy:
    gaussian: Bayesian quadrature, the smallest error on image games at every budget; the default.
    leverage: Musco & Witter, "Provably accurate Shapley value estimation via leverage score
        sampling", ICLR 2025, arXiv 2410.01917.
    kernel: KernelSHAP, Lundberg & Lee, "A unified approach to interpreting model predictions",
        NeurIPS 2017, Theorem 2; coalitions are drawn as the shap library does.

In all three a coalition is evaluated with its complement: the Shapley value depends on
`v(S) - v(complement of S)` only, so a pair removes half of the noise. An odd budget leaves one
coalition single.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from infoutil_jax.errors import InputError

ValueFn = Callable[[Bool[Array, "coalitions players"]], Float[Array, "coalitions *outputs"]]
Masks = Bool[np.ndarray, "coalitions players"]

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


def exact_shapley(value_fn: ValueFn, num_players: int) -> Float[Array, "players *outputs"]:
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
    num_players: int, budget: int, *, strategy: str = "gaussian", seed: int = 0
) -> CoalitionDesign:
    """Chooses coalitions and computes the estimator's matrix; NumPy on the host.

    The same arguments give the same bytes. A budget of `2**num_players` or more returns all
    coalitions and the exact operator, whatever the strategy: `masks` then has `2**num_players`
    rows. Otherwise it has `budget` rows.

    Args:
        num_players: 1 or more; 14×14 grids (196 players) work.
        budget: evaluated coalitions, the empty and the full one included. "gaussian" needs 2,
            "kernel" and "leverage" need `2 * num_players`: a pair tells one linear combination
            of the players, and efficiency another. Where a draw leaves players
            indistinguishable nevertheless, they share their surplus (minimum norm).
        strategy: "gaussian", "leverage" or "kernel"; see the module's docstring.
        seed: of the draw of coalitions, 0 or more.

    Returns:
        The design; use it with `shapley_values`.

    Raises:
        InputError: an unknown strategy, a budget below its need, or a bad number.
    """
    _check_players(num_players)
    if strategy not in _STRATEGIES:
        raise InputError(f"strategy is {strategy!r}; choose one of {', '.join(_STRATEGIES)}")
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
    masks, operator = _STRATEGIES[strategy](np.random.default_rng(seed), num_players, budget)
    return CoalitionDesign(masks, operator.astype(np.float32))


def shapley_values(value_fn: ValueFn, design: CoalitionDesign) -> Float[Array, "players *outputs"]:
    """Shapley values estimated from the design's coalitions; traceable under `jax.jit`.

    Args:
        value_fn: maps masks `[k, num_players]` to values `[k, *outputs]`; it is called once.
        design: from `coalition_design`.

    Returns:
        An estimate for each player and output, `[num_players, *outputs]`, float32 or wider. It
        sums over players to v(all) - v(none). NaN or infinite values make the output's estimates
        NaN.

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
    value_fn: ValueFn, num_players: int, budget: int, *, seed: int = 0
) -> Float[Array, "players *outputs"]:
    """KernelSHAP: `shapley_values` on a "kernel" design.

    Lundberg & Lee, NeurIPS 2017. The budget counts the empty and the full coalition, which shap's
    `nsamples` does not: `budget = nsamples + 2`. See `coalition_design` for arguments and errors.
    """
    design = coalition_design(num_players, budget, strategy="kernel", seed=seed)
    return shapley_values(value_fn, design)


def _check_players(num_players: int) -> None:
    if num_players < 1:
        raise InputError(f"num_players is {num_players}; a game needs at least 1 player")


def _exact_design(d: int) -> CoalitionDesign:
    """All coalitions and the definition: (|S|-1)!(d-|S|)!/d! for members, minus its mirror."""
    masks = (np.arange(2**d)[:, None] >> np.arange(d)) & 1 == 1
    masks[[1, -1]] = masks[[-1, 1]]
    joining = np.array([0.0] + [1 / (d * math.comb(d - 1, s - 1)) for s in range(1, d + 1)])
    size = masks.sum(1)
    operator = np.where(masks, joining[size, None], -joining[::-1][size, None]).T
    return CoalitionDesign(masks, operator.astype(np.float32))


# --- Choosing coalitions --------------------------------------------------------------------
# A stratum h holds the pairs (S, complement of S) with |S| = h <= d/2.


def _num_pairs(d: int, h: int) -> int:
    return math.comb(d, h) // (2 if 2 * h == d else 1)


def _shapley_kernel(d: int) -> Float[np.ndarray, " strata"]:
    """Mass of each stratum h = 1 .. d//2 under the Shapley kernel, summing to 1."""
    h = np.arange(1, d // 2 + 1)
    mass = np.where(2 * h == d, 1.0, 2.0) / (h * (d - h))
    return mass / mass.sum()


def _random_subset(rng: np.random.Generator, d: int, h: int) -> Bool[np.ndarray, " players"]:
    """A uniform pair, told by the half with h players (if both have, the half with player 0)."""
    mask = np.zeros(d, bool)
    mask[rng.choice(d, h, replace=False)] = True
    return ~mask if 2 * h == d and not mask[0] else mask


def _subsets(d: int, h: int) -> Masks:
    """Every pair of the stratum, told as `_random_subset` tells it."""
    if 2 * h == d:
        members: Iterable[tuple[int, ...]] = (
            (0, *(i + 1 for i in rest)) for rest in itertools.combinations(range(d - 1), h - 1)
        )
    else:
        members = itertools.combinations(range(d), h)
    index = np.array(list(members))
    masks = np.zeros((len(index), d), bool)
    np.put_along_axis(masks, index, True, axis=1)
    return masks


def _expected_pairs(
    d: int, pairs: int, mass: Float[np.ndarray, " strata"]
) -> Float[np.ndarray, " strata"]:
    """Pairs of each stratum, proportional to mass but never more than there are."""
    room = np.array([float(_num_pairs(d, h)) for h in range(1, d // 2 + 1)])
    expected = np.zeros(len(mass))
    is_open = np.ones(len(mass), bool)
    while is_open.any():
        share = (pairs - expected[~is_open].sum()) * mass / mass[is_open].sum()
        full = is_open & (share >= room)
        if not full.any():
            expected[is_open] = share[is_open]
            break
        expected[full] = room[full]
        is_open &= ~full
    return expected


def _distinct_pairs(
    rng: np.random.Generator, d: int, pairs: int, expected: Float[np.ndarray, " strata"]
) -> Masks:
    """Uniform draws without replacement in each stratum, as many as expected, rounded at random.

    Systematic rounding: every count is the expectation rounded down or up, and they add up.
    """
    edges = np.floor(np.cumsum(expected) + rng.uniform()).astype(int)
    edges[-1] = pairs
    rows: list[Bool[np.ndarray, " players"]] = []
    for h, count in enumerate(np.diff(edges, prepend=0), start=1):
        if 2 * count > _num_pairs(d, h):
            subsets = _subsets(d, h)
            rows.extend(subsets[rng.permutation(len(subsets))[:count]])
            continue
        drawn: dict[bytes, Bool[np.ndarray, " players"]] = {}
        while len(drawn) < count:
            mask = _random_subset(rng, d, h)
            drawn.setdefault(mask.tobytes(), mask)
        rows.extend(drawn.values())
    return np.array(rows).reshape(-1, d)


def _with_complements(halves: Masks, d: int, budget: int) -> Masks:
    """Empty, full, then each pair; an odd budget loses the last complement."""
    trivial = np.array([[False] * d, [True] * d])
    paired = np.stack([halves, ~halves], 1).reshape(-1, d)
    return np.concatenate([trivial, paired])[:budget]


# --- Strategies -----------------------------------------------------------------------------


def _kernel(
    rng: np.random.Generator, d: int, budget: int
) -> tuple[Masks, Float[np.ndarray, "players coalitions"]]:
    """Whole strata from the outside in while they fit, then draws; a repeated draw weighs more."""
    mass, pairs = _shapley_kernel(d), -(-(budget - 2) // 2)
    rows: list[Masks] = []
    weights: list[float] = []
    whole = 0
    while whole < len(mass):
        count = _num_pairs(d, whole + 1)
        left = (budget - 2) // 2 - len(weights)
        if left * mass[whole] / mass[whole:].sum() < count * (1 - 1e-8):
            break
        rows.append(_subsets(d, whole + 1))
        weights.extend([mass[whole] / count] * count)
        whole += 1
    drawn: dict[bytes, int] = {}
    probability = mass[whole:] / mass[whole:].sum()
    while len(weights) + len(drawn) < pairs:
        h = whole + 1 + int(rng.choice(len(probability), p=probability))
        key = _random_subset(rng, d, h).tobytes()
        drawn[key] = drawn.get(key, 0) + 1
    if drawn:
        rows.append(np.frombuffer(b"".join(drawn), bool).reshape(-1, d))
        counts = np.array(list(drawn.values()))
        weights.extend(mass[whole:].sum() * counts / counts.sum())
    masks = _with_complements(np.concatenate(rows), d, budget)
    return masks, _regression(masks, np.repeat(weights, 2)[: budget - 2])


def _leverage(
    rng: np.random.Generator, d: int, budget: int
) -> tuple[Masks, Float[np.ndarray, "players coalitions"]]:
    """Equal mass for every size, whose coalitions share it; kernel / probability is the weight."""
    pairs = -(-(budget - 2) // 2)
    sizes = np.arange(1, d // 2 + 1)
    expected = _expected_pairs(d, pairs, np.where(2 * sizes == d, 1.0, 2.0))
    halves = _distinct_pairs(rng, d, pairs, expected)
    weights = (_shapley_kernel(d) / expected)[halves.sum(1) - 1]
    masks = _with_complements(halves, d, budget)
    return masks, _regression(masks, np.repeat(weights, 2)[: budget - 2])


def _regression(
    masks: Masks, weights: Float[np.ndarray, " coalitions-2"]
) -> Float[np.ndarray, "players coalitions"]:
    """Weighted least squares of v(S) - v(none) on membership, with efficiency exact.

    With phi = (v(all) - v(none)) / d + basis @ u, where the basis' columns are orthogonal to
    ones, the constrained problem is an ordinary one in u.
    """
    budget, d = masks.shape
    total = np.zeros(budget)
    total[:2] = -1, 1
    target = np.eye(budget)[2:] - masks[2:].mean(1)[:, None] * total
    target[:, 0] -= 1
    basis = np.linalg.svd(np.ones((1, d)))[2][1:].T
    root = np.sqrt(weights / weights.sum())[:, None]
    inverse = np.linalg.pinv(root * (masks[2:] @ basis), rcond=1e-6)
    return total / d + basis @ (inverse @ (root * target))


RHO = 0.4
LINEAR = 1.0
JITTER = 1e-9


def _gaussian(
    rng: np.random.Generator, d: int, budget: int
) -> tuple[Masks, Float[np.ndarray, "players coalitions"]]:
    """Posterior mean of phi under a Gaussian-process prior on the game."""
    pairs = -(-(budget - 2) // 2)
    if pairs:
        expected = _expected_pairs(d, pairs, _shapley_kernel(d))
        halves = _distinct_pairs(rng, d, pairs, expected)
    else:
        halves = np.zeros((0, d), bool)
    masks = _with_complements(halves, d, budget)
    return masks, _posterior(masks)


def _posterior(masks: Masks) -> Float[np.ndarray, "players coalitions"]:
    """cov(phi, v) cov(v, v)^-1, then made efficient and blind to constants to the last bit."""
    budget, d = masks.shape
    signs = 2.0 * masks - 1
    kernel = RHO ** ((d - signs @ signs.T) / 2) + LINEAR * (1 + signs @ signs.T / 4)
    operator = np.linalg.solve(kernel + JITTER * np.eye(budget), _covariance(masks).T).T
    operator[:, 0] -= operator.sum(1)
    total = np.zeros(budget)
    total[:2] = -1, 1
    return operator + (total - operator.sum(0)) / d


def _covariance(masks: Masks) -> Float[np.ndarray, "players coalitions"]:
    """cov(phi_i, v(T)) in closed form.

    The Shapley weights are moments, |S|!(d-1-|S|)!/d! = ∫ t^|S| (1-t)^(d-1-|S|) dt over [0, 1], so
    the sum over the coalitions S of the others factorises over players under the integral:
    sum_S weight(S) prod_j k(s_j, t_j) = ∫ (t + rho (1-t))^m (rho t + 1-t)^(d-1-m) dt with m the
    number of other players in T. Gauss-Legendre integrates that polynomial exactly.
    """
    d = masks.shape[1]
    node, weight = np.polynomial.legendre.leggauss(d // 2 + 1)
    t = (node + 1) / 2
    m = np.arange(d)[:, None]
    moments = ((t + RHO * (1 - t)) ** m * (RHO * t + 1 - t) ** (d - 1 - m)) @ weight / 2
    signs = 2.0 * masks - 1
    others = masks.sum(1, keepdims=True) - masks
    return (signs * ((1 - RHO) * moments[others] + LINEAR / 2)).T


_STRATEGIES: dict[
    str,
    Callable[
        [np.random.Generator, int, int], tuple[Masks, Float[np.ndarray, "players coalitions"]]
    ],
] = {"gaussian": _gaussian, "leverage": _leverage, "kernel": _kernel}
