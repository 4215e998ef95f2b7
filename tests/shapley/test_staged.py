"""Stages on games that have nothing to do with images."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoutil_jax.errors import InputError
from infoutil_jax.shapley import GameBatch, exact_shapley, staged, staged_design, staged_shapley
from infoutil_jax.shapley.prior import Prior
from tests.shapley.by_the_textbook import stages_of


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


class Watched(Products):
    """Holds what it was asked last."""

    def values_of(self, games, masks):
        self.__dict__["asked"] = games, masks
        return super().values_of(games, masks)


def watch(games, design, **options):
    """What is found, and the games and masks of each evaluation.

    The loop of stages is Python's, and every turn a program that returns what it asked, too.
    """
    watched, evaluated = Watched(games.worth, games.bonus), []
    compiled = jax.lax.while_loop

    def loop(go_on, turn, now):
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(now)):
            return compiled(go_on, turn, now)
        turn_and_tell = jax.jit(lambda now: (turn(now), watched.asked))
        while go_on(now):
            now, asked = turn_and_tell(now)
            evaluated.append([np.asarray(one) for one in asked])
        return now

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jax.lax, "while_loop", loop)
        patched.setattr(staged, "_staged_shapley", staged._staged_shapley.__wrapped__)
        phi, used = staged_shapley(watched, design, **options)
    return phi, np.asarray(used), *zip(*evaluated, strict=True)


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
    phi, used = staged_shapley(games, staged_design((1, 6), 64), confidence=1.0)
    np.testing.assert_allclose(phi, closed_form(games), atol=1e-4)
    assert (used == 64).all()
    one = exact_shapley(lambda masks: games.values_of(jnp.array([3]), masks[None])[0], 6)
    np.testing.assert_allclose(phi[3], one, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_the_lanes_change_nothing(games, at_once):
    design = staged_design((1, 6), 64, step=4)
    phi, used = staged_shapley(games, design, confidence=0.999, at_once=at_once)
    expected, needed = staged_shapley(games, design, confidence=0.999)
    np.testing.assert_allclose(phi, expected, atol=1e-6)
    np.testing.assert_array_equal(used, needed)
    assert len(set(used.tolist())) > 1


def test_nothing_is_evaluated_but_what_the_games_are_said_to_have_taken(games):
    design = staged_design((1, 6), 64, step=4)
    _, used, evaluated, _ = watch(games, design, confidence=0.999, at_once=1)
    assert 4 * len(evaluated) == used.sum() < 64 * len(games)


def test_no_game_is_asked_for_that_is_not_there(games):
    """Not even where the last ones leave lanes idle."""
    design = staged_design((1, 6), 64, step=4)
    _, _, evaluated, _ = watch(games, design, confidence=0.999, at_once=3)
    assert set(np.concatenate(evaluated).tolist()) == set(range(len(games)))


def test_by_default_the_best_window_is_right_with_a_probability_of_98_percent(games):
    design = staged_design((1, 6), 64, window=1, step=2)
    used = {
        confidence: staged_shapley(games, design, confidence=confidence)[1].sum()
        for confidence in (0.9, 0.98, 0.999)
    }
    assert used[0.9] < staged_shapley(games, design)[1].sum() == used[0.98] < used[0.999]


@pytest.mark.parametrize("at_once", [1, 2, 7])
@pytest.mark.parametrize(("grid", "window"), [((1, 6), 1), ((2, 3), (2, 1)), ((2, 3), 1)])
def test_each_game_is_played_as_the_textbook_has_it(games, at_once, grid, window):
    """Asked what most tells its windows apart, until one is right with so much probability."""
    design = staged_design(grid, 54, window=window, step=4)
    found, used = staged_shapley(games, design, confidence=0.99, at_once=at_once)
    ways = set()
    for game, expected in enumerate(used.tolist()):
        masks = jnp.asarray(np.r_[design.masks, ~design.masks])
        values = np.asarray(games.values_of(jnp.array([game]), masks[None]), np.float64)[0]
        differences = np.subtract(*np.split(values, 2))
        for stage in stages_of(design, differences):
            if stage.rivals.sum() <= 0.01:
                break
        assert expected == 2 * len(stage.asked)
        np.testing.assert_allclose(found[game], stage.phi, atol=1e-4)
        ways.add(tuple(stage.asked[:6]))
    assert len(set(used.tolist())) > 2 and len(ways) > 1


@pytest.mark.parametrize(("at_once", "sizes"), [(3, [3]), (5, [5, 1]), (35, [35, 8, 2])])
def test_few_lanes_go_on_where_few_games_are_left(games, at_once, sizes):
    """A quarter, and a quarter of these; every game is as it would be alone."""
    scale = jnp.repeat(1 + jnp.arange(5) / 4, 7)[:, None]
    games = Products(jnp.tile(games.worth, (5, 1)) * scale, jnp.tile(games.bonus, (5, 1)))
    design = staged_design((1, 6), 64, window=1, step=2)
    phi, used, evaluated, _ = watch(games, design, confidence=0.999, at_once=at_once)
    lanes = [len(batch) for batch in evaluated]
    assert list(dict.fromkeys(lanes)) == sizes and lanes == sorted(lanes, reverse=True)
    alone, needed = staged_shapley(games, design, confidence=0.999, at_once=1)
    np.testing.assert_allclose(phi, alone, atol=1e-5)
    np.testing.assert_array_equal(used, needed)


def test_lanes_of_games_that_are_done_do_not_compute_to_the_end(games):
    design = staged_design((1, 6), 64, window=1, step=4)
    _, used, evaluated, _ = watch(games, design, confidence=0.999, at_once=4)
    assert sum(map(len, evaluated)) < 4 * np.sum(used // 4) / 2


def test_no_games_have_no_values():
    none = Products(jnp.zeros((0, 6)), jnp.zeros((0, 5)))
    phi, used = staged_shapley(none, staged_design((1, 6), 8))
    assert phi.shape == (0, 6) and used.shape == (0,)


@pytest.mark.parametrize("grid", [(1, 1), (1, 3), (3, 1)])
def test_where_one_window_is_all_there_is_the_first_stage_knows_it(grid):
    games = Products(jnp.ones((2, grid[0] * grid[1])), jnp.zeros((2, grid[0] * grid[1] - 1)))
    design = staged_design(grid, 8, window=grid, step=2)
    assert len(design.windows) == 1
    phi, used = staged_shapley(games, design)
    assert used.tolist() == [2, 2]
    np.testing.assert_allclose(phi, 1, atol=1e-5)


def test_a_clear_winner_takes_few_coalitions():
    """Of single players the prior knows the form: a quarter of the coalitions is enough."""
    games = Products(jnp.eye(6)[:3] * 9, jnp.zeros((3, 5)))
    phi, used = staged_shapley(games, staged_design((1, 6), 64, window=1, step=16))
    assert (used == 16).all()
    np.testing.assert_array_equal(phi.argmax(1), [0, 1, 2])
    np.testing.assert_allclose(phi, np.eye(6)[:3] * 9, atol=0.02)


def test_whoever_wants_to_be_certain_plays_the_whole_budget():
    games = Products(jnp.eye(6)[:3] * 9, jnp.zeros((3, 5)))
    _, used = staged_shapley(games, staged_design((1, 6), 64, window=1), confidence=1.0)
    assert (used == 64).all()


def test_a_clear_winner_among_losers_is_as_clear():
    """All others lose 9: that one is ahead is told by differences, whatever their signs."""
    games = Products(jnp.eye(6)[:3] * 9 - 9, jnp.zeros((3, 5)))
    phi, used = staged_shapley(games, staged_design((1, 6), 64, window=1, step=16))
    assert (used == 16).all()
    np.testing.assert_array_equal(phi.argmax(1), [0, 1, 2])


@pytest.mark.parametrize("confidence", [0.5, 0.98])
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
    games = Tables(jnp.asarray(tables))
    phi, _ = staged_shapley(games, design, confidence=1.0, at_once=at_once)
    np.testing.assert_allclose(phi.sum(1), tables[:, -1] - tables[:, 0], atol=1e-5)


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize(
    ("prior", "exact"),
    [
        (Prior(0.95, 1e5), False),
        (Prior(0.95, 1e-7, square=1e5), True),
        (Prior(0.999, 1.0, 1.0), True),
    ],
)
def test_what_the_pairs_before_tell_to_rounding_adds_nothing(prior, exact, step):
    """Under priors of players who do one thing alone most pairs tell less than rounding hides."""
    signs = 2.0 * ((np.arange(64)[:, None] >> np.arange(6)) & 1) - 1
    threes = [0, 1, 3], [1, 2, 4], [1, 4, 5]
    tables = np.stack([signs[:, players].prod(1) for players in threes]).astype(np.float32)
    design = staged_design((2, 3), 64, window=(1, 2), prior=prior, step=step)
    phi, _ = staged_shapley(Tables(jnp.asarray(tables)), design, confidence=1.0)
    right = np.array([np.isin(np.arange(6), players) for players in threes]) * 2 / 3
    np.testing.assert_allclose(phi.sum(1), 2, atol=1e-4)
    np.testing.assert_allclose(phi, right, atol=1e-5 if exact else 10)


def test_an_odd_budget_is_not_exceeded(games):
    """Coalitions are asked for in pairs."""
    _, used = staged_shapley(games, staged_design((1, 6), 33), confidence=1.0)
    assert (used == 32).all()


def test_a_last_stage_that_is_not_whole_counts_as_what_it_is(games):
    """Ten pairs are two stages of four, and two."""
    phi, used = staged_shapley(games, staged_design((1, 6), 20, step=8), confidence=1.0)
    assert (used == 20).all()
    np.testing.assert_allclose(phi.sum(1), closed_form(games).sum(1), atol=1e-5)


@pytest.mark.parametrize("step", [2, 4, 6])
def test_no_coalition_is_evaluated_twice_or_that_a_game_does_not_have(step):
    """Three players have eight; a last stage is filled up with the full and the empty one."""
    game = Products(jnp.ones((1, 3)), jnp.zeros((1, 2)))
    design = staged_design((1, 3), 100, step=step)
    phi, used, _, evaluated = watch(game, design, confidence=1.0)
    assert used.tolist() == [8]
    rows = np.concatenate([masks.reshape(-1, 3) for masks in evaluated])
    assert len(rows) == -(-8 // step) * step and len({row.tobytes() for row in rows[:8]}) == 8
    assert {row.sum() for row in rows[8:]} <= {0, 3}
    np.testing.assert_allclose(phi, 1, atol=1e-5)


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
            lambda games: staged_shapley(games, staged_design((1, 6), 8), confidence=1.5),
            "confidence is 1.5; give a probability",
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
