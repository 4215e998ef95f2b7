"""The kernel student: its updates against solving anew, its choice against others."""

from itertools import product

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import log_loss

from infoutil_jax.errors import InputError
from infoutil_jax.method.selection import Candidates, MostUseful, running, take
from infoutil_jax.method.selection.kernel_student import (
    TEMPERATURE,
    arc_cosine,
    choose,
    losses,
    toggled,
    untaught,
)
from infoutil_jax.method.selection.kernel_student import loss as loss_of
from infoutil_jax.method.selection.most_useful import sharpness
from infoutil_jax.method.selection.ranking import by_chance

KEY = jax.random.key(0)


def world(seed, candidates=8, judges=20, classes=3):
    """Features of candidates and judges, and their labels."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 5))
    labels, judge_labels = (np.arange(n) % classes for n in (candidates, judges))
    seen, judged = (
        centres[c] + rng.normal(size=(len(c), 5)) / 2 for c in (np.sort(labels), judge_labels)
    )
    return seen, judged, np.sort(labels), judge_labels


def student(seed, **sizes):
    seen, judged, labels, truth = world(seed, **sizes)
    return untaught(arc_cosine(seen, seen), arc_cosine(judged, seen), soft(labels), truth)


def after(student, *candidates):
    """The student after it has learnt, or forgotten, one after the other."""
    for candidate in candidates:
        student = toggled(student, candidate)
    return student


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def soft(labels):
    """What a teacher that is not quite sure says."""
    noise = np.random.default_rng(0).uniform(size=(len(labels), labels.max() + 1)) / 2
    answers = np.eye(labels.max() + 1)[labels] + noise
    return answers / answers.sum(1, keepdims=True)


def loss(seed, known, ridge=0.1, **sizes):
    """Cross-entropy of scikit-learn's kernel ridge regression on what is known."""
    seen, judged, labels, truth = world(seed, **sizes)
    answers = np.zeros((len(judged), 3))
    if known:
        model = KernelRidge(alpha=ridge, kernel="precomputed")
        model.fit(arc_cosine(seen[known], seen[known]), soft(labels)[known] - 1 / 3)
        answers = model.predict(arc_cosine(judged, seen[known]))
    return log_loss(truth, jax.nn.softmax(answers / TEMPERATURE))


def table(seed, crops=2, **sizes):
    """Candidates of which each image's first crop has the lowest score."""
    seen, _, labels, _ = world(seed, **sizes)
    rows, rng = len(labels) * crops, np.random.default_rng(seed)
    features = np.repeat(seen, crops, 0) + rng.normal(size=(rows, 5)) / 4
    side = np.tile(np.arange(crops) + 4, len(labels))
    return Candidates(
        ids=np.repeat(np.arange(len(labels)), crops),
        crops=np.tile(np.arange(crops, dtype=np.int32), len(labels)),
        labels=np.repeat(labels, crops).astype(np.int32),
        scores=side.astype(np.float32) + np.repeat(rng.permutation(len(labels)), crops) / 100,
        features={
            "untrained": features.astype(np.float32),
            "probabilities": soft(np.repeat(labels, crops)).astype(np.float32),
        },
    )


def most_useful(key, candidates, per_class, **options):
    return MostUseful(**options).finalize(key, candidates, per_class)


def replaced(pool, **columns):
    return pool._replace(features={**pool.features, **columns})


def test_the_kernel_is_that_of_infinitely_many_rectifiers():
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4))
    weights = np.random.default_rng(1).normal(size=(4, 200_000))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    layers = [np.maximum(x @ weights, 0) for x in (a, b)]
    expected = 2 * layers[0] @ layers[1].T / 200_000
    np.testing.assert_allclose(arc_cosine(a, b), expected, atol=0.02)
    np.testing.assert_allclose(np.diag(arc_cosine(a, 5 * a)), 1, atol=1e-6)
    np.testing.assert_allclose(np.diag(arc_cosine(a, -a)), 0, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(8)))
def test_what_it_would_gain_and_lose_is_what_training_anew_gives(seed, order):
    known = list(order[:4])
    one = after(student(seed), *known)
    assert set(np.flatnonzero(one.knows)) == set(known)
    np.testing.assert_allclose(loss_of(one), loss(seed, known), rtol=1e-5)
    expected = [
        loss(seed, [k for k in known if k != c] if c in known else [*known, c]) for c in range(8)
    ]
    np.testing.assert_allclose(losses(one, np.arange(8)), expected, rtol=1e-5)
    old, others = known[1], [known[0], *known[2:]]
    free = np.array([old, *order[4:]])
    expected = [loss(seed, [*others, new]) for new in free]
    np.testing.assert_allclose(losses(one, free, instead_of=old), expected, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_forgetting_undoes_learning(seed):
    one, other = after(student(seed), 0, 5, 3, 5), after(student(seed), 3, 0)
    for found, expected in zip(one[:5], other[:5], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_before_it_has_learnt_all_classes_are_the_same_to_it():
    np.testing.assert_allclose(loss_of(student(0)), np.log(3), rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_no_exchange_improves_the_choice(seed):
    pool = table(seed, crops=1, candidates=12)
    seen, said = pool.features["untrained"], np.log(pool.features["probabilities"].astype(float))
    kernel = arc_cosine(seen, seen)
    answers = np.asarray(jax.nn.softmax(sharpness(said, pool.labels) * said))

    def taught(rows):
        return after(untaught(kernel, kernel, answers, pool.labels), *rows)

    kept = most_useful(KEY, pool, 1)
    assert len(set(pool.labels[kept.ids])) == 3
    for row, label in zip(kept.ids.tolist(), kept.labels, strict=True):
        members = np.flatnonzero(pool.labels == label)
        others = [other for other in kept.ids.tolist() if other != row]
        found = np.asarray(losses(taught(others), members))
        assert found[members == row] <= found.min() + 1e-6
    found = [loss_of(taught(rows)) for rows in product(range(4), range(4, 8), range(8, 12))]
    assert loss_of(taught(kept.ids.tolist())) < np.quantile(np.array(found), 0.1)


@pytest.mark.parametrize("seed", [3, 9])
def test_each_sweep_lowers_the_loss_until_no_more_are_allowed(seed):
    one, labels = student(seed, candidates=24), np.sort(np.arange(24) % 3)
    found = [choose(one, labels, 2, sweeps) for sweeps in (0, 1, 2, 8)]
    lost = [float(loss_of(after(one, *rows.tolist()))) for rows, _ in found]
    assert lost[0] > lost[1] > lost[2] >= lost[3]
    for rows, utilities in found:  # by how much the loss would rise without each
        everything = after(one, *rows.tolist())
        rises = np.asarray(losses(everything, rows)) - float(loss_of(everything))
        np.testing.assert_allclose(utilities, rises, atol=1e-6)


def test_best_scored_crops_compete_and_the_last_judge():
    pool = table(3, candidates=30, crops=3)
    kept = most_useful(KEY, pool, 2)
    assert set(kept.crops) == {0}
    assert set(most_useful(KEY, pool, 2, keep="highest").crops) == {2}
    for crop, changes in ((0, True), (1, False), (2, True)):
        seen = pool.features["untrained"].copy()
        seen[pool.crops == crop] *= -1
        changed = most_useful(KEY, replaced(pool, untrained=seen), 2)
        assert (set(changed.ids) != set(kept.ids)) == changes


@pytest.mark.parametrize("temperature", [0.5, 5.0])
def test_how_sure_the_teacher_is_does_not_matter(temperature):
    pool = table(8, candidates=60)
    tempered = pool.features["probabilities"] ** (1 / temperature)
    tempered /= tempered.sum(1, keepdims=True)
    kept = most_useful(KEY, pool, 2)
    same = most_useful(KEY, replaced(pool, probabilities=tempered), 2)
    np.testing.assert_array_equal(kept.ids, same.ids)
    np.testing.assert_allclose(kept.scores, same.scores, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.3, 8))
def test_sharpness_undoes_a_temperature(seed, temperature):
    rng = np.random.default_rng(seed)
    log_p = jax.nn.log_softmax(2 * rng.normal(size=(4000, 3)))
    truth = (np.exp(log_p).cumsum(1) < rng.uniform(size=(4000, 1))).sum(1).clip(max=2)
    assert sharpness(np.asarray(log_p), truth) == pytest.approx(1, rel=0.15)
    modest = np.asarray(jax.nn.log_softmax(log_p / temperature))
    found = sharpness(modest, truth)
    assert found == pytest.approx(temperature * sharpness(np.asarray(log_p), truth), rel=1e-3)


@pytest.mark.parametrize("shortlist", [1, 9])
def test_the_shortlist_is_of_the_lowest_scores(shortlist):
    pool = table(1, candidates=60)
    first = pool.scores[pool.crops == 0]
    kept = most_useful(KEY, pool, 2, shortlist=shortlist)
    for label in range(3):
        members = np.flatnonzero(pool.labels[pool.crops == 0] == label)
        best = members[np.argsort(first[members])[: max(shortlist, 8)]]
        assert set(kept.ids[kept.labels == label]) <= set(best)


def test_classes_in_groups_are_filled_too():
    pool = table(6, candidates=60, classes=10)
    kept = most_useful(KEY, pool, 2, classes_at_once=3)
    np.testing.assert_array_equal(kept.labels, np.repeat(np.arange(10), 2))
    assert set(kept.ids) != set(most_useful(KEY, pool, 2).ids)


def test_neither_order_nor_the_names_of_classes_matter():
    pool = table(2, candidates=30)
    kept = most_useful(KEY, pool, 2)
    shuffled = take(pool, np.random.default_rng(0).permutation(len(pool.ids)))
    jax.tree.map(np.testing.assert_array_equal, most_useful(KEY, shuffled, 2), kept)
    renamed = most_useful(KEY, pool._replace(labels=pool.labels * 7 + 2), 2)
    np.testing.assert_array_equal(renamed.ids, kept.ids)


def test_scores_are_what_the_set_would_lose_and_the_most_useful_come_first():
    kept = most_useful(KEY, table(4, candidates=30), 3)
    by_class = kept.scores.reshape(3, 3)
    assert (np.diff(by_class, axis=1) <= 0).all() and (kept.scores > 0).any()


def test_judges_are_drawn_where_there_are_more():
    pool = table(5, candidates=60)

    def few(key):
        return tuple(most_useful(key, pool, 2, judges=12).ids)

    assert few(KEY) == few(KEY)
    assert len({few(jax.random.key(k)) for k in range(8)}) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shortlist": 0}, "shortlist is 0; give at least 1"),
        ({"judges": 0}, "judges is 0; give at least 1"),
        ({"per_class": 0}, "per_class is 0; keep at least 1 of each class"),
        ({"sweeps": -1}, "sweeps is -1; give at least 0"),
        ({"classes_at_once": 0}, "classes_at_once is 0; give at least 1"),
        ({"ridge": 0.0}, "ridge is 0.0; it must be positive"),
        ({"per_class": 11}, "class 0 has 10 candidates to choose from, but 11 are needed"),
        ({"candidates": table(0)._replace(features={})}, "candidates have none: give the recipe"),
        ({"key": None}, "needs a key"),
    ],
)
def test_bad_input_is_one_sentence(change, message, unchecked):
    arguments = {"key": KEY, "candidates": table(0, candidates=30), "per_class": 2, **change}
    with pytest.raises(InputError, match=message):
        most_useful(**arguments)


def test_what_is_taught_are_probabilities():
    pool = table(0)
    for wrong in (pool.features["untrained"], 2 * pool.features["probabilities"]):
        with pytest.raises(InputError, match="it must hold the probabilities of the 3 classes"):
            most_useful(KEY, replaced(pool, probabilities=wrong), 1)
    lacking = pool._replace(features={"untrained": pool.features["untrained"]})
    with pytest.raises(InputError, match="but the candidates have untrained: give the recipe"):
        most_useful(KEY, lacking, 1)


def test_a_feature_that_is_no_number_is_named():
    pool = table(0)
    pool.features["untrained"][5, 0] = np.nan
    with pytest.raises(InputError, match="the features of example 2 are not all numbers"):
        most_useful(KEY, pool, 1)


@pytest.mark.parametrize("options", [{}, {"keep": "highest"}, {"classes_at_once": 2}])
@pytest.mark.parametrize("seed", range(3))
def test_what_reduce_leaves_out_could_not_have_mattered(seed, options):
    """finalize(reduce(reduce(A) + B)) == finalize(A + B), crops of one image in A and in B."""
    selector = MostUseful(shortlist=2, judges=4, **options)
    pool, rng = table(seed, candidates=45, crops=2), np.random.default_rng(seed)
    order = rng.permutation(len(pool.ids))
    parts = (take(pool, np.sort(rows)) for rows in np.array_split(order, [3, 40, 41]))
    kept = running(selector, KEY, parts, 1)
    assert len(kept.ids) <= 3 * (4 + 4) < len(pool.ids)
    expected = selector.finalize(KEY, pool, 1)
    jax.tree.map(np.testing.assert_array_equal, selector.finalize(KEY, kept, 1), expected)


def test_judges_are_the_ones_that_draw_best_whoever_else_is_there():
    pool = table(5, candidates=60)
    drawn = selection_of_judges(pool)
    without = take(pool, np.isin(pool.ids, drawn[:3]))
    fewer = take(pool, ~np.isin(pool.ids, drawn[:3]))
    assert selection_of_judges(fewer)[:9] == drawn[3:]
    assert selection_of_judges(without) == drawn[:3]


def selection_of_judges(pool):
    """Ids of twelve judges, by their draws."""
    example, ids, _ = by_chance(KEY, pool)
    return list(dict.fromkeys(pool.ids[np.lexsort((ids, example))].tolist()))[:12]


def test_a_score_in_the_middle_is_known_at_the_end():
    assert MostUseful(keep="middle").reduce is None
    with pytest.raises(InputError, match="needs a key"):
        MostUseful().reduce(None, table(0), 1)


def test_columns_of_classes_that_have_no_rows_are_left_out():
    """A student tells apart the classes that there are, whatever others the teacher knows."""
    pool = table(2, candidates=30)
    answers = pool.features["probabilities"]
    wider = np.zeros((len(answers), 6), np.float32)
    wider[:, [1, 3, 4]], wider[:, [0, 2, 5]] = 0.9 * answers, 0.1 / 3
    moved = replaced(pool, probabilities=wider)._replace(
        labels=np.array([1, 3, 4], np.int32)[pool.labels]
    )
    np.testing.assert_array_equal(most_useful(KEY, moved, 2).ids, most_useful(KEY, pool, 2).ids)
    with pytest.raises(InputError, match="probabilities has 6 columns"):
        most_useful(KEY, moved._replace(labels=moved.labels + 2), 2)


def test_other_features_of_any_shape_are_not_asked_for():
    pool = table(0)
    more = {"loss": pool.scores, "maps": np.full((len(pool.ids), 2, 2), np.nan, np.float32)}
    expected = most_useful(KEY, pool, 1)
    kept = most_useful(KEY, pool._replace(features={**pool.features, **more}), 1)
    np.testing.assert_array_equal(kept.ids, expected.ids)
