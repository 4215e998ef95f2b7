"""Which coalitions to evaluate, and the linear estimator on them; NumPy on the host, runs once.

Each strategy maps (generator, players, budget) to distinct coalitions, the empty one first and
the full one second, and the float64 matrix that turns their values into Shapley values.
`shapley.coalition_design` is the way in, checks the arguments and says what the strategies are.

A pair is a coalition S and its complement; stratum h holds the pairs whose smaller half has h
players, 1 <= h <= d/2.
"""

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Bool, Float, Int

Mask = Bool[np.ndarray, " players"]
Masks = Bool[np.ndarray, "_ players"]
Operator = Float[np.ndarray, "players _"]
Strata = Float[np.ndarray, " strata"]
Strategy = Callable[[np.random.Generator, int, int], tuple[Masks, Operator]]

RHO = 0.6
"""Prior of "gaussian": correlation of two values that differ in one player."""

LINEAR = 3.0
"""Prior of "gaussian": variance of a player's own worth, beside the product kernel's 1.

Both were chosen on 4×4 games of CIFAR-10 (`experiments/benchmarks/shapley_error.py`) and digits.
On CIFAR-10 the optimum is flat: with RHO from 0.4 to 0.7 and LINEAR from 1 to 10 the errors stayed
within a factor of two; on digits, whose games are nearly additive, LINEAR = 1 is worse.
"""

JITTER = 1e-9
"""Added to the prior's diagonal; its condition number stays far from 1/JITTER."""

CANDIDATES = 4096
"""Pairs "gaussian" chooses among."""

CHOSEN = 512
"""Pairs "gaussian" chooses one by one; further ones are drawn."""


def exact(d: int) -> tuple[Masks, Operator]:
    """All coalitions and the definition: (|S|-1)!(d-|S|)!/d! for members, minus |S|!(d-1-|S|)!/d!.

    Args:
        d: number of players.

    Returns:
        masks `[2**d, d]` and operator `[d, 2**d]`.
    """
    masks = (np.arange(2**d)[:, None] >> np.arange(d)) & 1 == 1
    masks[[1, -1]] = masks[[-1, 1]]
    joining = np.array([0.0] + [1 / (d * math.comb(d - 1, s - 1)) for s in range(1, d + 1)])
    size = masks.sum(1)
    return masks, np.where(masks, joining[size, None], -joining[::-1][size, None]).T


def kernel(rng: np.random.Generator, d: int, budget: int) -> tuple[Masks, Operator]:
    """KernelSHAP's: whole strata from the outside in while they fit, then draws.

    As in shap's KernelExplainer a repeated draw weighs more; unlike there, coalitions of half the
    players are paired with their complements, too.
    """
    mass, pairs = _shapley_kernel(d), _pairs_of(budget)
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


def leverage(rng: np.random.Generator, d: int, budget: int) -> tuple[Masks, Operator]:
    """Musco & Witter's: the same mass for every size, weights kernel / inclusion probability."""
    sizes = np.arange(1, d // 2 + 1)
    expected = _expected_pairs(d, _pairs_of(budget), np.where(2 * sizes == d, 1.0, 2.0))
    halves = _distinct_pairs(rng, d, expected)
    weights = (_shapley_kernel(d) / expected)[halves.sum(1) - 1]
    masks = _with_complements(halves, d, budget)
    return masks, _regression(masks, np.repeat(weights, 2)[: budget - 2])


def gaussian(rng: np.random.Generator, d: int, budget: int) -> tuple[Masks, Operator]:
    """Bayesian quadrature: the posterior mean of phi, at pairs that leave it least uncertain.

    The prior on the game is a Gaussian process with covariance
    `prod_i (1 if s_i == t_i else RHO) + LINEAR * (1 + s·t / 4)`, s and t in {-1, 1}^d. Both terms
    are blind to swapping every coalition for its complement, so the even half of the game, which
    has no part in phi, drops out of a paired design.
    """
    pairs = _pairs_of(budget)
    pool = min(max(CANDIDATES, pairs), 2 ** (d - 1) - 1)
    expected = _expected_pairs(d, pool, _shapley_kernel(d))
    candidates = rng.permutation(_distinct_pairs(rng, d, expected))
    first = _informative(candidates, min(pairs, CHOSEN))
    order = np.concatenate([first, np.setdiff1d(np.arange(pool), first)])
    masks = _with_complements(candidates[order[:pairs]], d, budget)
    return masks, _posterior(masks)


STRATEGIES: dict[str, Strategy] = {"gaussian": gaussian, "leverage": leverage, "kernel": kernel}


# --- Drawing pairs ---


def _pairs_of(budget: int) -> int:
    """Pairs beside the empty and full coalition; an odd budget leaves the last one incomplete."""
    return (budget - 1) // 2


def _num_pairs(d: int, h: int) -> int:
    return math.comb(d, h) // (2 if 2 * h == d else 1)


def _shapley_kernel(d: int) -> Strata:
    """Mass of each stratum under the Shapley kernel, summing to 1."""
    h = np.arange(1, d // 2 + 1)
    mass = np.where(2 * h == d, 1.0, 2.0) / (h * (d - h))
    return mass / mass.sum()


def _random_subset(rng: np.random.Generator, d: int, h: int) -> Mask:
    """A uniform pair, told by the half with h players (if both have, the half with player 0)."""
    mask = np.zeros(d, bool)
    mask[rng.choice(d, h, replace=False)] = True
    return ~mask if 2 * h == d and not mask[0] else mask


def _subsets(d: int, h: int) -> Masks:
    """Every pair of the stratum, told as `_random_subset` tells it."""
    members: Iterable[tuple[int, ...]] = itertools.combinations(range(d), h)
    if 2 * h == d:
        members = itertools.takewhile(lambda subset: subset[0] == 0, members)
    index = np.array(list(members))
    masks = np.zeros((len(index), d), bool)
    np.put_along_axis(masks, index, True, axis=1)
    return masks


def _expected_pairs(d: int, pairs: int, mass: Strata) -> Strata:
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


def _distinct_pairs(rng: np.random.Generator, d: int, expected: Strata) -> Masks:
    """Uniform draws without replacement in each stratum, as many as expected, rounded at random.

    Systematic rounding: every count is the expectation rounded down or up, and they add up.
    """
    edges = np.floor(np.cumsum(expected) + rng.uniform()).astype(int)
    edges[-1] = round(expected.sum())
    rows: list[Mask] = []
    for h, count in enumerate(np.diff(edges, prepend=0), start=1):
        if 2 * count > _num_pairs(d, h):
            subsets = _subsets(d, h)
            rows.extend(subsets[rng.permutation(len(subsets))[:count]])
            continue
        drawn: dict[bytes, Mask] = {}
        while len(drawn) < count:
            mask = _random_subset(rng, d, h)
            drawn.setdefault(mask.tobytes(), mask)
        rows.extend(drawn.values())
    return np.array(rows, bool).reshape(-1, d)


def _with_complements(halves: Masks, d: int, budget: int) -> Masks:
    """Empty, full, then each pair; an odd budget loses the last complement."""
    trivial = np.array([[False] * d, [True] * d])
    paired = np.stack([halves, ~halves], 1).reshape(-1, d)
    return np.concatenate([trivial, paired])[:budget]


# --- Regression ---


def _efficiency(budget: int) -> Float[np.ndarray, " budget"]:
    """The row vector that reads v(all) - v(none) off the values."""
    total = np.zeros(budget)
    total[:2] = -1, 1
    return total


def _regression(masks: Masks, weights: Float[np.ndarray, " _"]) -> Operator:
    """Weighted least squares of v(S) - v(none) on membership, with efficiency exact.

    With phi = (v(all) - v(none)) / d + basis @ u, where the basis' columns are orthogonal to
    ones, the constrained problem is an ordinary one in u (Musco & Witter, Lemma 3.1). Directions
    with singular values below 1e-6 of the largest count as unseen and get zero.
    """
    budget, d = masks.shape
    total = _efficiency(budget)
    target = np.eye(budget)[2:] - masks[2:].mean(1)[:, None] * total
    target[:, 0] -= 1
    basis = np.linalg.svd(np.ones((1, d)))[2][1:].T
    root = np.sqrt(weights / weights.sum())[:, None]
    inverse = np.linalg.pinv(root * (masks[2:] @ basis), rcond=1e-6)
    return total / d + basis @ (inverse @ (root * target))


# --- Gaussian process ---


def _prior(agreement: Float[np.ndarray, "*shape"], d: int) -> Float[np.ndarray, "*shape"]:
    """Covariance of two values from s·t, which is d for equal coalitions, -d for complements."""
    return RHO ** ((d - agreement) / 2) + LINEAR * (1 + agreement / 4)


def _covariance(masks: Masks) -> Operator:
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
    others = masks.sum(1, keepdims=True) - masks
    return ((2.0 * masks - 1) * ((1 - RHO) * moments[others] + LINEAR / 2)).T


def _posterior(masks: Masks) -> Operator:
    """cov(phi, v) cov(v, v)^-1, then made blind to constants and efficient to the last bit."""
    budget, d = masks.shape
    signs = 2.0 * masks - 1
    covariance = _prior(signs @ signs.T, d) + JITTER * np.eye(budget)
    operator = np.linalg.solve(covariance, _covariance(masks).T).T
    operator[:, 0] -= operator.sum(1)
    return operator + (_efficiency(budget) - operator.sum(0)) / d


def _informative(candidates: Masks, count: int) -> Int[np.ndarray, " count"]:
    """Greedily, the candidates that reduce the posterior variance of phi most, summed over players.

    One step of pivoted Cholesky a choice, on u(S) = v(S) - v(complement of S), beginning with the
    full coalition, which every design holds. With F the factor so far and A = cov(phi, u) F's
    counterpart, cov(phi, u | chosen) = cross - A F is never formed: a step is one product with F.
    """
    d = candidates.shape[1]
    pool = np.concatenate([np.ones((1, d), bool), candidates])
    signs = 2.0 * pool - 1
    cross = _covariance(pool) - _covariance(~pool)
    explained = np.square(cross).sum(0)
    ends = _prior(np.array([d, -d], float), d)
    variance = np.full(len(pool), 2 * (ends[0] - ends[1]))
    factor, loading = np.zeros((count + 1, len(pool))), np.zeros((d, count + 1))
    chosen = np.zeros(count + 1, int)
    for k in range(count + 1):
        if k:
            gain = explained / np.maximum(variance, JITTER)
            gain[chosen[:k]] = -np.inf
            chosen[k] = np.argmax(gain)
        j = chosen[k]
        scale = math.sqrt(max(variance[j], JITTER))
        column = (cross[:, j] - loading[:, :k] @ factor[:k, j]) / scale
        seen, told = np.stack([factor[:k, j], column @ loading[:, :k]]) @ factor[:k]
        agreement = signs @ signs[j]
        factor[k] = (2 * (_prior(agreement, d) - _prior(-agreement, d)) - seen) / scale
        loading[:, k] = column
        explained -= factor[k] * (2 * (column @ cross - told) - column @ column * factor[k])
        variance -= factor[k] ** 2
    return chosen[1:] - 1
