"""Which coalitions to evaluate, and the linear estimator on them; NumPy on the host, runs once.

Each strategy maps (generator, players, budget) to distinct coalitions, the empty one first and
the full one second, and the float64 matrix that turns their values into Shapley values.
`coalition_design` is the way in, checks the arguments and says what the strategies are;
that called "gaussian" is in `bayesian_quadrature`.

A pair is a coalition S and its complement; stratum h holds the pairs whose smaller half has h
players, 1 <= h <= d/2.
"""

import itertools
import math
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Bool, Float

Mask = Bool[np.ndarray, " players"]
Masks = Bool[np.ndarray, "_ players"]
Operator = Float[np.ndarray, "players _"]
Strata = Float[np.ndarray, " strata"]
Strategy = Callable[[np.random.Generator, int, int], tuple[Masks, Operator]]


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
    """KernelSHAP: takes whole strata from the outside in while they fit, then draws.

    As in shap's KernelExplainer a repeated draw weighs more; unlike there, coalitions of half the
    players are paired with their complements, too.
    """
    mass, pairs = shapley_kernel(d), pairs_of(budget)
    rows: list[Masks] = []
    weights: list[float] = []
    whole = 0
    while True:  # fewer than all coalitions leave something of the last stratum to draw
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
    rows.append(np.frombuffer(b"".join(drawn), bool).reshape(-1, d))
    counts = np.array(list(drawn.values()))
    weights.extend(mass[whole:].sum() * counts / counts.sum())
    masks = with_complements(np.concatenate(rows), d, budget)
    return masks, _regression(masks, np.repeat(weights, 2)[: budget - 2])


def leverage(rng: np.random.Generator, d: int, budget: int) -> tuple[Masks, Operator]:
    """Musco & Witter: the same mass for every size, weights kernel / inclusion probability."""
    sizes = np.arange(1, d // 2 + 1)
    expected = expected_pairs(d, pairs_of(budget), np.where(2 * sizes == d, 1.0, 2.0))
    halves = distinct_pairs(rng, d, expected)
    weights = (shapley_kernel(d) / expected)[halves.sum(1) - 1]
    masks = with_complements(halves, d, budget)
    return masks, _regression(masks, np.repeat(weights, 2)[: budget - 2])


# --- Drawing pairs ---


def pairs_of(budget: int) -> int:
    """Pairs beside the empty and full coalition; an odd budget leaves the last one incomplete."""
    return (budget - 1) // 2


def _num_pairs(d: int, h: int) -> int:
    return math.comb(d, h) // (2 if 2 * h == d else 1)


def shapley_kernel(d: int) -> Strata:
    """Mass of each stratum under the Shapley kernel, summing to 1."""
    h = np.arange(1, d // 2 + 1)
    mass = np.where(2 * h == d, 1.0, 2.0) / (h * (d - h))
    result: Strata = mass / mass.sum()
    return result


def _random_subset(rng: np.random.Generator, d: int, h: int) -> Mask:
    """Draws a pair uniformly; returns its half with h players (if both, that with player 0)."""
    mask = np.zeros(d, bool)
    mask[rng.choice(d, h, replace=False)] = True
    return ~mask if 2 * h == d and not mask[0] else mask


def _subsets(d: int, h: int) -> Masks:
    """Every pair of the stratum, each by the half that `_random_subset` returns."""
    members: Iterable[tuple[int, ...]] = itertools.combinations(range(d), h)
    if 2 * h == d:
        members = itertools.takewhile(lambda subset: subset[0] == 0, members)
    index = np.array(list(members))
    masks = np.zeros((len(index), d), bool)
    np.put_along_axis(masks, index, True, axis=1)
    return masks


def expected_pairs(d: int, pairs: int, mass: Strata) -> Strata:
    """Expected pairs of each stratum: proportional to mass, but never more than there are."""
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


def distinct_pairs(rng: np.random.Generator, d: int, expected: Strata) -> Masks:
    """Draws uniformly without replacement in each stratum, as many as expected, rounded at random.

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


def with_complements(halves: Masks, d: int, budget: int) -> Masks:
    """Empty, full, then each pair; an odd budget loses the last complement."""
    trivial = np.array([[False] * d, [True] * d])
    paired = np.stack([halves, ~halves], 1).reshape(-1, d)
    return np.concatenate([trivial, paired])[:budget]


# --- Regression ---


def efficiency(budget: int) -> Float[np.ndarray, " budget"]:
    """The row vector whose product with the values is v(all) - v(none)."""
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
    total = efficiency(budget)
    target = np.eye(budget)[2:] - masks[2:].mean(1)[:, None] * total
    target[:, 0] -= 1
    basis = np.linalg.svd(np.ones((1, d)))[2][1:].T
    root = np.sqrt(weights)[:, None]
    inverse = np.linalg.pinv(root * (masks[2:] @ basis), rcond=1e-6)
    result: Operator = total / d + basis @ (inverse @ (root * target))
    return result
