"""A pool that is spread over machines is the pool scored here, even if a machine is lost."""

import dataclasses
import os
import signal
import sys

import numpy as np
import pytest

from infoutil_jax.distillation import DistillConfig, distill, parts, pool, score_pool
from infoutil_jax.distillation.engines import Ray
from infoutil_jax.errors import InputError
from infoutil_jax.method.recipes import infoutil_paper, rded
from infoutil_jax.method.shapley_maps import ShapleyConfig, ShapleyMaps

CONFIG = DistillConfig(pool=20, batch_size=32, progress=False)  # 200 images: parts of 64 and of 8
RDED = rded(num_crops=2)
LAZY = dataclasses.replace(
    infoutil_paper(), attribute=ShapleyMaps(ShapleyConfig(grid=3, budget=64))
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART", 64)


@pytest.fixture
def teacher(teachers):
    return teachers["converged"]


def backwards(score, wanted):
    """The plainest engine: all that an engine has to do, and the last part first."""
    for number in reversed(range(len(wanted))):
        yield number, score(wanted[number])


def engaged(engine):
    return dataclasses.replace(CONFIG, engine=engine)


@pytest.mark.parametrize("recipe", [RDED, LAZY], ids=lambda recipe: recipe.name)
def test_a_function_that_yields_parts_in_any_order_is_an_engine(recipe, digits, teacher, tmp_path):
    made = [
        distill(
            digits, teacher, recipe, images_per_class=2, workdir=tmp_path / name, config=config
        ).digest
        for name, config in {"here": CONFIG, "spread": engaged(backwards)}.items()
    ]
    assert made[0] == made[1]


def test_without_a_folder_the_table_is_the_same(digits, teacher):
    here = score_pool(digits, teacher, RDED, config=CONFIG).rows
    spread = score_pool(digits, teacher, RDED, config=engaged(backwards)).rows
    np.testing.assert_array_equal(spread.candidates.ids, here.candidates.ids)
    np.testing.assert_array_equal(spread.candidates.scores, here.candidates.scores)
    np.testing.assert_array_equal(spread.boxes, here.boxes)


def test_what_is_on_disk_is_not_asked_for_again(digits, teacher, tmp_path):
    asked = []

    def first_two(score, wanted):
        asked.append(len(wanted))
        for number, rows in backwards(score, wanted):
            if len(asked) == 1 and number < len(wanted) - 2:
                raise KeyboardInterrupt
            yield number, rows

    config = engaged(first_two)
    with pytest.raises(KeyboardInterrupt):
        score_pool(digits, teacher, RDED, folder=tmp_path / "parts", config=config)
    score_pool(digits, teacher, RDED, folder=tmp_path / "parts", config=config)
    assert asked == [4, 2]


def test_several_processes_and_an_engine_are_refused(digits, teacher, monkeypatch):
    monkeypatch.setattr(pool.jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match="an engine spreads the pool by itself"):
        score_pool(digits, teacher, RDED, config=engaged(backwards))


# --- Ray ---


def test_ray_scores_a_lost_part_again_and_tells_errors_as_they_are(
    digits, teacher, tmp_path, monkeypatch
):
    """One of two worker processes is killed while it scores: the set is the one made here."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's own is 15: after all other work
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    killed = tmp_path / "killed"

    def score(predict, variables, crops, labels):
        if not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return crops.mean((1, 2, 3))

    def misshapen(predict, variables, crops, labels):
        return crops.mean((1, 2))

    def made(name, engine):
        recipe = dataclasses.replace(RDED, score=score, version="1")
        options = {"images_per_class": 2, "workdir": tmp_path / name, "config": engaged(engine)}
        return distill(digits, teacher, recipe, **options)

    killed.touch()
    here = made("here", None)
    killed.unlink()
    heard = signal.getsignal(signal.SIGTERM)
    try:
        spread = made("spread", Ray())
        assert killed.exists()
        assert spread.digest == here.digest
        assert signal.getsignal(signal.SIGTERM) is heard
        wrong = dataclasses.replace(RDED, score=misshapen)
        with pytest.raises(InputError, match=r"^the recipe's score returned"):
            score_pool(digits, teacher, wrong, config=engaged(Ray()))
        killed.unlink()
        with pytest.raises(InputError, match="were lost 1 times while they were scored"):
            made("lost", Ray(retries=0))
    finally:
        ray.shutdown()


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_nobody_at_an_address_is_told_at_once(address, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match=f"no Ray cluster at '{address}': "):
        list(Ray(address)(lambda part: part, []))


def test_without_the_package_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'infoutil-jax\[ray\]'"):
        list(Ray()(lambda part: part, []))
    with pytest.raises(InputError, match="retries is -1; it must be at least 0"):
        Ray(retries=-1)
