"""Patch maps from as few coalitions as the crop takes: an image is done once its window is chosen.

The Gaussian process that estimates the Shapley values (`bayesian_quadrature`) also says how
uncertain they are. Coalitions are evaluated stage by stage; when the best window is ahead of every
other one by enough, the image is done, and the next image takes its place in the batch. The device
sees batches of one size, without a pause between images, in one compiled loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from infoutil_jax.errors import InputError
from infoutil_jax.method import patch_games
from infoutil_jax.method.bayesian_quadrature import innovations

Matrix = np.ndarray | Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class StagedDesign:
    """Coalitions in stages, and what they tell: made by `staged_design`, a pytree of arrays.

    With u the differences of a pair's two values, `whitener @ u` are independent numbers of one
    variance, the game's scale squared, and `loadings` turns them into Shapley values.

    Attributes:
        masks: each coalition is followed by its complement; the first is the full one.
        whitener: rows of stage k read the pairs of stages 0 to k only.
        loadings: what each of those numbers adds to the Shapley values.
        known: pairs known after each stage.
        windows: `windows @ phi` are the means of a map over the windows of `shapley_boxes`.
        spread: standard deviation of the difference of two windows after each stage, at scale 1.
    """

    masks: Bool[Matrix, "stages step players"]
    whitener: Float[Matrix, "stages half pairs"]
    loadings: Float[Matrix, "stages half players"]
    known: Float[Matrix, " stages"]
    windows: Float[Matrix, "windows players"]
    spread: Float[Matrix, "stages windows windows"]


def staged_design(
    grid: int | tuple[int, int],
    budget: int,
    *,
    window: int | tuple[int, int] | None = None,
    step: int = 16,
    seed: int = 0,
) -> StagedDesign:
    """The coalitions of `coalition_design(..., grid=grid)`, in stages; NumPy on the host.

    Args:
        grid: patches a side, or (rows, columns).
        budget: coalitions of an image whose window stays in doubt; all are evaluated where there
            are no more.
        window: patches that are pooled, as in `shapley_boxes`; by default half the grid.
        step: coalitions of a stage, an even number.
        seed: of the draw of coalitions.

    Raises:
        InputError: an argument out of range, or a window that does not fit the grid.
    """
    grid_h, grid_w = (grid, grid) if isinstance(grid, int) else grid
    players = grid_h * grid_w
    if min(grid_h, grid_w) < 1:
        raise InputError(f"a {grid_h}x{grid_w} grid has no patches; give at least 1 a side")
    if budget < 2 or step < 2 or step % 2 or seed < 0:
        raise InputError(
            f"budget is {budget}, step {step}, seed {seed}: give a budget of at least 2 "
            "coalitions, an even step of at least 2, and a seed of 0 or more"
        )
    if window is None:
        window = (max(1, grid_h // 2), max(1, grid_w // 2))
    elif isinstance(window, int):
        window = (window, window)
    pairs = min(-(-budget // 2), 2 ** (players - 1))
    known = innovations(np.random.default_rng(seed), players, pairs, (grid_h, grid_w))
    windows = _windows((grid_h, grid_w), window)

    half = step // 2
    stages = -(-pairs // half)
    ends = np.minimum(np.arange(1, stages + 1) * half, pairs)
    spread = []
    for end in ends:
        left = known.shapley - known.loadings[:, :end] @ known.loadings[:, :end].T
        of_windows = windows @ left @ windows.T
        variance = np.diag(of_windows)
        spread.append(np.maximum(variance[:, None] + variance - 2 * of_windows, 0) ** 0.5)

    def in_stages(rows: np.ndarray, fill: Any) -> np.ndarray:
        missing = np.full((stages * half - pairs, *rows.shape[1:]), fill, rows.dtype)
        return np.concatenate([rows, missing]).reshape(stages, half, *rows.shape[1:])

    whitener = np.pad(known.whitener, ((0, 0), (0, stages * half - pairs)))
    masks = in_stages(known.masks, True)
    return StagedDesign(
        masks=np.stack([masks, ~masks], axis=2).reshape(stages, step, players),
        whitener=in_stages(whitener, 0).astype(np.float32),
        loadings=in_stages(known.loadings.T, 0).astype(np.float32),
        known=ends.astype(np.float32),
        windows=windows.astype(np.float32),
        spread=np.stack(spread).astype(np.float32),
    )


def _windows(grid: tuple[int, int], window: tuple[int, int]) -> np.ndarray:
    """What `pool_maps` does as a matrix, in NumPy, for designs are made while JAX traces, too."""
    rows, columns = (parts - span + 1 for parts, span in zip(grid, window, strict=True))
    if rows < 1 or columns < 1 or min(window) < 1:
        raise InputError(
            f"the window {window[0]}x{window[1]} does not fit a map of {grid[0]}x{grid[1]} patches"
        )
    windows = np.zeros((rows, columns, *grid))
    for top, left in np.ndindex(rows, columns):
        windows[top, left, top : top + window[0], left : left + window[1]] = 1
    return windows.reshape(rows * columns, -1) / (window[0] * window[1])


def staged_shapley(
    predict: patch_games.Predict,
    variables: Any,
    images: Float[Array | np.ndarray, "batch height width channels"],
    labels: Integer[Array | np.ndarray, " batch"] | None,
    design: StagedDesign,
    *,
    grid: int | tuple[int, int],
    sure: float = 2.0,
    baseline: Any = 0.0,
    output: str | patch_games.Output = "logit",
    batch_size: int = 256,
) -> tuple[Float[Array, "batch grid_h grid_w"], Int[Array, " batch"]]:
    """`attribution.patch_shapley`, but an image is done once its best window is chosen.

    Args:
        predict: as in `patch_shapley`, as are the next three.
        variables: a pytree.
        images: normalised images.
        labels: the class that is explained; None explains the predicted one.
        design: from `staged_design`, for this grid and the window that will be cut out.
        grid: patches a side, or (rows, columns).
        sure: standard deviations that the best window must be ahead of every other; at 0 the
            first stage decides, and with infinity no stage does before the last.
        baseline: what a missing patch shows, as in `patch_shapley`.
        output: what a coalition is worth, as in `patch_shapley`.
        batch_size: masked images in flight at once; at least the design's step.

    Returns:
        The maps, and how many coalitions each of them took.

    Raises:
        InputError: as `patch_shapley`, a negative `sure`, or a batch below the design's step.
    """
    step, players = design.masks.shape[1:]
    if not sure >= 0:
        raise InputError(f"sure is {sure}; give standard deviations, 0 or more")
    if batch_size < step:
        raise InputError(
            f"batch_size is {batch_size}, but a stage of the design holds {step} coalitions: "
            "give as many, or a design of a smaller step"
        )
    game = patch_games.game_of(images, players, grid, baseline, output)
    return _staged_shapley(
        predict,
        *game.static,
        min(len(images), batch_size // step),
        variables,
        jnp.asarray(images),
        None if labels is None else jnp.asarray(labels),
        design,
        game.baseline,
        float(sure),
    )


class _Lanes(NamedTuple):
    """What is under way: an image a lane, from which evaluation goes on."""

    image: Array
    stage: Array
    differences: Array
    phi: Array
    power: Array
    following: Array
    maps: Array
    used: Array


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _staged_shapley(
    predict, output, baseline_fn, grid, lanes, variables, images, labels, design, baseline, sure
):
    count = len(images)
    stages, step, players = design.masks.shape
    half, pairs = step // 2, design.whitener.shape[-1]
    design = jax.tree.map(jnp.asarray, design)
    if labels is None:
        labels = jnp.argmax(predict(variables, images), axis=-1)
    absent = jnp.broadcast_to(baseline_fn(images) if baseline_fn else baseline, images.shape)
    product = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)

    def values(image, stage):
        shown = patch_games.painted(
            design.masks[stage], images[image][:, None], absent[image][:, None], grid
        )
        logits = predict(variables, shown.reshape(-1, *images.shape[1:]))
        return output(logits, jnp.repeat(labels[image], step)).reshape(lanes, step)

    def advance(now: _Lanes) -> _Lanes:
        stage = now.stage
        worth = values(jnp.minimum(now.image, count - 1), stage).astype(jnp.float32)
        differences = jax.vmap(jax.lax.dynamic_update_slice)(
            now.differences, worth[:, ::2] - worth[:, 1::2], (stage * half)[:, None]
        )
        white = product("lpq,lq->lp", design.whitener[stage], differences)
        phi = now.phi + product("lp,lpd->ld", white, design.loadings[stage])
        power = now.power + jnp.square(white).sum(1)
        # Efficiency, as in every design: phi sums to v(all) - v(none).
        maps = phi + (differences[:, :1] - phi.sum(1, keepdims=True)) / players

        pooled = product("ld,wd->lw", maps, design.windows)
        best = jnp.argmax(pooled, axis=1)
        ahead = pooled.max(1, keepdims=True) - pooled
        scale = jnp.sqrt(power / design.known[stage])[:, None]
        behind = ahead > sure * scale * design.spread[stage, best]
        chosen = jnp.all(behind | (jnp.arange(pooled.shape[1]) == best[:, None]), axis=1)

        ends = chosen | (stage == stages - 1)
        place = jnp.where(ends, now.image, count)
        follower = now.following + jnp.cumsum(ends) - 1
        fresh = ends[:, None]
        return _Lanes(
            image=jnp.where(ends, follower, now.image),
            stage=jnp.where(ends, 0, stage + 1),
            differences=jnp.where(fresh, 0, differences),
            phi=jnp.where(fresh, 0, phi),
            power=jnp.where(ends, 0, power),
            following=now.following + ends.sum(),
            maps=now.maps.at[place].set(maps, mode="drop"),
            used=now.used.at[place].set((stage + 1) * step, mode="drop"),
        )

    done = jax.lax.while_loop(
        lambda now: jnp.any(now.image < count),
        advance,
        _Lanes(
            image=jnp.arange(lanes),
            stage=jnp.zeros(lanes, int),
            differences=jnp.zeros((lanes, pairs)),
            phi=jnp.zeros((lanes, players)),
            power=jnp.zeros(lanes),
            following=jnp.asarray(lanes),
            maps=jnp.zeros((count, players)),
            used=jnp.zeros(count, int),
        ),
    )
    return done.maps.reshape(-1, *grid), done.used
