"""Stages on games that have nothing to do with images."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from infoutil_jax.errors import InputError
from infoutil_jax.shapley import GameBatch, exact_shapley, half_of, staged_design, staged_shapley
from infoutil_jax.shapley.prior import Games, Prior


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Products:
    """Each game's players add their worth, and neighbours in a row earn a bonus together."""

    worth: jax.Array
    bonus: jax.Array

    def __len__(self):
        return len(self.worth)

    def values_of(self, games, masks):
        own = jnp.einsum("lp,lsp->ls", self.worth[games], masks.astype(float))
        pairs = (masks[..., :-1] & masks[..., 1:]).astype(float)
        return own + jnp.einsum("lp,lsp->ls", self.bonus[games], pairs)


SEEN = []


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Watched(Products):
    """Notes each time that coalitions are evaluated."""

    def values_of(self, games, masks):
        def note(games):
            SEEN.append(np.array(games))
            return games

        # The values need what is noted, so that it is there as soon as they are.
        noted = io_callback(note, games, games)
        return super().values_of(noted, masks)


@pytest.fixture(scope="module")
def games():
    rng = np.random.default_rng(0)
    worth, bonus = rng.normal(size=(7, 6)), rng.normal(size=(7, 5))
    return Products(jnp.asarray(worth, jnp.float32), jnp.asarray(bonus, jnp.float32))


def closed_form(games):
    """A bonus of two is shared by the two."""
    half = np.asarray(games.bonus) / 2
    return np.asarray(games.worth) + np.pad(half, ((0, 0), (1, 0))) + np.pad(half, ((0, 0), (0, 1)))


def test_any_batch_of_games_will_do(games):
    assert isinstance(games, GameBatch)
    phi, used = staged_shapley(games, staged_design((1, 6), 64), confidence=np.inf)
    np.testing.assert_allclose(phi, closed_form(games), atol=1e-4)
    assert (used == 64).all()
    one = exact_shapley(lambda masks: games.values_of(jnp.array([3]), masks[None])[0], 6)
    np.testing.assert_allclose(phi[3], one, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_the_lanes_change_nothing(games, at_once):
    design = staged_design((1, 6), 64, step=4)
    phi, used = staged_shapley(games, design, confidence=5.0, at_once=at_once)
    expected, needed = staged_shapley(games, design, confidence=5.0)
    np.testing.assert_allclose(phi, expected, atol=1e-6)
    np.testing.assert_array_equal(used, needed)
    assert len(set(used.tolist())) > 1


def test_nothing_is_evaluated_but_what_the_games_are_said_to_have_taken(games):
    SEEN.clear()
    design = staged_design((1, 6), 64, step=4)
    watched = Watched(games.worth, games.bonus)
    _, used = staged_shapley(watched, design, confidence=5.0, at_once=1)
    used = np.asarray(used)
    assert 4 * len(SEEN) == used.sum() < 64 * len(games)


def test_no_game_is_asked_for_that_is_not_there(games):
    """Not even where the last ones leave lanes idle."""
    SEEN.clear()
    watched = Watched(games.worth, games.bonus)
    design = staged_design((1, 6), 64, step=4)
    jax.block_until_ready(staged_shapley(watched, design, confidence=5.0, at_once=3))
    assert set(np.concatenate(SEEN).tolist()) == set(range(len(games)))


def test_by_default_a_window_is_best_when_it_leads_by_two_and_a_half_deviations(games):
    design = staged_design((1, 6), 64, window=1, step=4)
    used = {
        confidence: staged_shapley(games, design, confidence=confidence)[1].sum()
        for confidence in (1.0, 2.5, 5.0)
    }
    assert used[1.0] < staged_shapley(games, design)[1].sum() == used[2.5] < used[5.0]


def posterior(prior, masks, u):
    """Mean and covariance of phi given u, and the scale at which u is likeliest."""
    with_phi = prior.cross(masks) - prior.cross(~masks)
    told = np.linalg.solve(prior.between_pairs(masks), np.c_[u, with_phi.T])
    covariance = prior.shapley() - with_phi @ told[:, 1:]
    return with_phi @ told[:, 0], covariance, (u @ told[:, 0] / len(u)) ** 0.5


def test_the_spread_of_two_windows_is_what_the_coalitions_so_far_leave_uncertain():
    design = staged_design((2, 3), 20, window=(1, 2), step=8)
    beside = [(0, 1), (1, 2), (3, 4), (4, 5)]
    windows = np.array([np.isin(np.arange(6), one) / 2 for one in beside])
    np.testing.assert_allclose(design.windows, windows)
    for spread, pairs in zip(design.spread, (4, 8, 10), strict=True):
        masks = design.masks.reshape(-1, 6)[: 2 * pairs : 2]
        _, covariance, _ = posterior(Games(6, (2, 3)), masks, np.zeros(pairs))
        for one, other in np.ndindex(4, 4):
            difference = windows[one] - windows[other]
            variance = difference @ covariance @ difference
            assert spread[one, other] == pytest.approx(variance**0.5, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("at_once", [2, 7])
def test_a_game_ends_after_the_first_stage_at_which_its_best_window_is_clear(games, at_once):
    """Ahead of every other by so many standard deviations of their difference, and no sooner.

    Each takes its own way: from the trunk of 16 pairs on to the branch of its two best windows.
    """
    design = staged_design((1, 6), 64, window=1, step=4)
    found, used = staged_shapley(games, design, confidence=8.0, at_once=at_once)
    branches = set()
    for game, expected in enumerate(used.tolist()):
        seen, stage = [], 0
        while stage >= 0:
            seen += list(design.masks[stage])
            masks = np.array(seen)
            values = np.asarray(games.values_of(jnp.array([game]), masks[None]), np.float64)[0]
            u = values[::2] - values[1::2]
            phi, covariance, scale = posterior(Games(6, (1, 6)), masks[::2], u)
            phi += (u[0] - phi.sum()) / 6
            second, best = np.argsort(phi)[-2:]
            difference = np.delete(np.eye(6)[best] - np.eye(6), best, axis=0)
            spread = np.sqrt(np.diag(difference @ covariance @ difference.T).clip(0))
            if (difference @ phi > 8.0 * scale * spread).all():
                break
            following = design.following[stage, best, second]
            if following > stage + 1:
                branches.add((best, second))
            stage = following
        assert expected == len(seen)
        np.testing.assert_allclose(found[game], phi, atol=1e-4)
    assert len(set(used.tolist())) > 3 and len(branches) > 1


def test_branches_tell_their_two_windows_apart_at_least_as_well_as_the_others_do():
    """At the end of the trunk nobody knows who will meet; half of the way on, the meeting shows."""
    design = staged_design(4, 128, step=16)
    fork = 1  # after two stages of eight pairs
    entries = {}
    for one, other in zip(*np.triu_indices(9, 1), strict=True):
        entries[one, other] = design.following[fork, one, other]
        assert design.following[fork, other, one] == entries[one, other]
    assert len(set(entries.values())) == 36
    for (one, other), entry in entries.items():
        spread = [design.spread[at + 1, one, other] for at in entries.values()]
        assert design.spread[entry + 1, one, other] < 1.02 * min(spread) < np.mean(spread)


def test_a_long_design_has_no_branches_that_would_fill_the_memory():
    assert len(staged_design((2, 3), 64, step=4).masks) > 16
    branched, long = (staged_design((3, 4), budget, step=32) for budget in (512, 514))
    assert len(branched.masks) > 17 == len(long.masks)


def test_every_way_through_a_design_holds_each_coalition_once():
    design = staged_design((3, 3), 96, step=8)
    ways = [[0]]
    for way in ways:
        following = set(design.following[way[-1]].ravel().tolist())
        if following != {-1}:
            ways += [[*way, one] for one in following if one >= 0]
            continue
        rows = design.masks[way].reshape(-1, 9)
        assert len(np.unique(rows, axis=0)) == 96
        assert design.known[way].tolist() == list(range(4, 49, 4))


def test_few_lanes_compute_where_few_games_are_left(games):
    """What they find is the same; no lane computes for a game that is done."""
    SEEN.clear()
    watched = Watched(games.worth, games.bonus)
    design = staged_design((1, 6), 64, window=1, step=4)
    _, used = staged_shapley(watched, design, confidence=4.0, at_once=4)
    assert {len(batch) for batch in map(np.atleast_1d, SEEN)} == {1, 4}
    assert sum(map(len, map(np.atleast_1d, SEEN))) < 4 * np.sum(used // 4) / 2


def test_a_clear_winner_takes_few_coalitions():
    """Of single players the prior knows the form: a quarter of the coalitions is enough."""
    games = Products(jnp.eye(6)[:3] * 9, jnp.zeros((3, 5)))
    phi, used = staged_shapley(games, staged_design((1, 6), 64, window=1, step=16))
    assert (used == 16).all()
    np.testing.assert_array_equal(phi.argmax(1), [0, 1, 2])
    np.testing.assert_allclose(phi, np.eye(6)[:3] * 9, atol=0.02)


def test_a_clear_winner_among_losers_is_as_clear():
    """All others lose 9: that one is ahead is told by differences, whatever their signs."""
    games = Products(jnp.eye(6)[:3] * 9 - 9, jnp.zeros((3, 5)))
    phi, used = staged_shapley(games, staged_design((1, 6), 64, window=1, step=16))
    assert (used == 16).all()
    np.testing.assert_array_equal(phi.argmax(1), [0, 1, 2])


@pytest.mark.parametrize("confidence", [0.0, 2.0])
def test_where_two_windows_are_alike_no_stage_decides(confidence):
    """A game in which nobody earns anything takes its whole budget, and ends at zero."""
    games = Products(jnp.zeros((2, 6)), jnp.zeros((2, 5)))
    design = staged_design((1, 6), 32, window=1, step=8)
    phi, used = staged_shapley(games, design, confidence=confidence)
    np.testing.assert_array_equal(phi, 0)
    assert (used == 32).all()


def test_two_coalitions_share_the_worth_of_all_equally():
    games = Products(jnp.arange(6.0)[None], jnp.zeros((1, 5)))
    phi, used = staged_shapley(games, staged_design((1, 6), 2, step=2))
    np.testing.assert_allclose(phi, np.full((1, 6), 15 / 6), atol=1e-5)
    assert used.tolist() == [2]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Tables:
    """Each game has a value for every coalition."""

    table: jax.Array

    def __len__(self):
        return len(self.table)

    def values_of(self, games, masks):
        return self.table[games[:, None], masks @ (1 << jnp.arange(masks.shape[-1]))]


@pytest.mark.parametrize("at_once", [1, 8])
def test_efficiency_holds_of_games_that_the_prior_thought_impossible(at_once):
    """Of noise, which it does not expect, the posterior means alone add up to a sum off by 1."""
    tables = np.random.default_rng(0).normal(size=(8, 2**6)).astype(np.float32)
    design = staged_design((2, 3), 64, prior=Prior(0.999, 1.0))
    phi, _ = staged_shapley(Tables(jnp.asarray(tables)), design, at_once=at_once)
    np.testing.assert_allclose(phi.sum(1), tables[:, -1] - tables[:, 0], atol=1e-5)


def test_the_stages_hold_a_column_for_each_of_their_pairs():
    """Ten pairs are two stages of four, and one that is filled up."""
    design = staged_design((2, 3), 20, step=8)
    assert design.masks.shape == (3, 8, 6)
    assert design.loadings.shape == (3, 4, 6)
    assert design.whitener.shape == (3, 4, 12)


def test_no_coalition_is_evaluated_that_a_game_does_not_have():
    design = staged_design((1, 3), 100, step=2)
    assert design.known.tolist() == [1, 2, 3, 4]
    rows = {row.tobytes() for row in design.masks.reshape(-1, 3)}
    assert len(rows) == 8 == design.masks.shape[0] * 2


@pytest.mark.parametrize(
    ("grid", "half"), [((4, 4), (2, 2)), ((1, 5), (1, 2)), ((7, 1), (3, 1)), ((1, 1), (1, 1))]
)
def test_half_of_a_grid_holds_at_least_one_player(grid, half):
    assert half_of(grid) == half


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda games: staged_design(4, 1), "budget is 1"),
        (lambda games: staged_design(4, 64, step=5), "an even step"),
        (lambda games: staged_design(4, 64, seed=-1), "seed -1"),
        (lambda games: staged_design(0, 64), "has no players"),
        (lambda games: staged_design(4, 64, window=5), "does not fit a map"),
        (lambda games: staged_design((2, 3), 8, window=(3, 1)), "3x1 does not fit"),
        (lambda games: staged_design((2, 3), 8, window=(1, 4)), "1x4 does not fit"),
        (lambda games: staged_design((2, 3), 8, window=(0, 1)), "0x1 does not fit"),
        (lambda games: staged_design((2, 3), 8, window=(1, 0)), "1x0 does not fit"),
        (
            lambda games: staged_shapley(games, staged_design((1, 6), 8), confidence=-1.0),
            "confidence is -1.0",
        ),
        (
            lambda games: staged_shapley(games, staged_design((1, 6), 8), at_once=0),
            "at_once is 0",
        ),
    ],
)
def test_bad_arguments_are_told_in_a_sentence(games, call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(games)
