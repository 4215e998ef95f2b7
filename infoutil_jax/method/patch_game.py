"""The games of images: players are patches, a coalition is worth an output of a classifier.

JAX, on the device, for a batch of images at once. `attribution` makes maps of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from infoutil_jax.blocks import map_blocks
from infoutil_jax.errors import InputError
from infoutil_jax.image.grid import cell_of_pixel, checked_grid
from infoutil_jax.method.contracts import Predict
from infoutil_jax.method.logits import as_logits, check_labels

MASKED_BATCH = 256
"""Masked images in flight at once, unless something else is asked for."""

Output = Callable[[Array, Array], Array]
"""What a coalition is worth: (logits `[n, classes]`, labels `[n]`) -> `[n]`."""


def label_logits(
    logits: Float[Array, "n classes"], labels: Integer[Array, " n"]
) -> Float[Array, " n"]:
    """The logit of each row's label."""
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


def _probability(logits: Array, labels: Array) -> Array:
    return label_logits(jax.nn.softmax(logits), labels)


def _log_probability(logits: Array, labels: Array) -> Array:
    return label_logits(jax.nn.log_softmax(logits), labels)


OUTPUTS: dict[str, Output] = {
    "logit": label_logits,
    "probability": _probability,
    "log_probability": _log_probability,
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PatchGame:
    """A batch of games, one an image; made by `patch_game`, a pytree.

    The players of each are the patches of its image, row by row of the grid. A coalition shows its
    own patches and the baseline elsewhere, and is worth a scalar output of the classifier.

        values = game(masks)                 # what coalitions are worth in every image
        phi = shapley_values(game, design)   # [players, batch]

    Attributes:
        predict: the classifier.
        variables: its arrays.
        images: normalised.
        labels: the class whose output counts in each image.
        baseline: what absent patches show, of a shape that broadcasts to the images'.
        output: from logits and labels to values.
        grid: rows and columns of patches.
        batch_size: masked images in flight at once.
    """

    predict: Predict = field(metadata={"static": True})
    variables: Any
    images: Float[Array, "batch height width channels"]
    labels: Integer[Array, " batch"]
    baseline: Float[Array, "..."]
    output: Output = field(metadata={"static": True})
    grid: tuple[int, int] = field(metadata={"static": True})
    batch_size: int = field(metadata={"static": True})

    def __len__(self) -> int:
        """How many images, and so games, there are."""
        return self.images.shape[0]

    def __call__(
        self, masks: Bool[Array | np.ndarray, "coalitions players"]
    ) -> Float[Array, "coalitions batch"]:
        """What each coalition is worth in each image; all images share the coalitions.

        Raises:
            InputError: the masks are of another number of players.
        """
        self._check_players(masks.shape[-1])
        result: Float[Array, "coalitions batch"] = _values(self, jnp.asarray(masks))
        return result

    def values_of(
        self, games: Int[Array, " lanes"], masks: Bool[Array, "lanes step players"]
    ) -> Float[Array, "lanes step"]:
        """What the coalitions of some images are worth; each image has its own.

        Raises:
            InputError: the masks are of another number of players.
        """
        self._check_players(masks.shape[-1])
        images = self.images[games][:, None]
        absent = jnp.broadcast_to(self.baseline, self.images.shape)[games][:, None]
        shown = painted(masks, images, absent, self.grid)
        logits = self.predict(self.variables, shown.reshape(-1, *self.images.shape[1:]))
        lanes, step, _ = masks.shape
        return self.output(logits, jnp.repeat(self.labels[games], step)).reshape(lanes, step)

    def _check_players(self, players: int) -> None:
        rows, columns = self.grid
        if players != rows * columns:
            raise InputError(
                f"the coalition design has {players} players but a {rows}x{columns} grid has "
                f"{rows * columns}: make a design of {rows * columns} players for it"
            )


def patch_game(
    predict: Predict,
    variables: Any,
    images: Float[Array | np.ndarray, "batch height width channels"],
    labels: Integer[Array | np.ndarray, " batch"] | None,
    *,
    grid: int | tuple[int, int],
    baseline: Any = 0.0,
    output: str | Output = "logit",
    batch_size: int = MASKED_BATCH,
) -> PatchGame:
    """The game of InfoUtil's stage 1 (Section 4.1), of each image.

    Args:
        predict: `predict(variables, images) -> logits [batch, classes]`; any pure function, also
            one that returns what `logits_of` knows.
        variables: what `predict` takes, a pytree.
        images: normalised images, as `predict` takes them.
        labels: the class whose output is explained; None explains the predicted class.
        grid: patches a side, or (rows, columns). Need not divide the image.
        baseline: what an absent patch shows: a scalar (0 is the mean colour of normalised images,
            as in the paper), a colour `[channels]`, an image `[height, width, channels]`, an image
            for each `[batch, height, width, channels]`, or a function of the images, such as
            `attribution.blurred`.
        output: "logit" (Captum's default), "probability", "log_probability", or a function
            `(logits [n, classes], labels [n]) -> [n]`.
        batch_size: masked images in flight at once; bounds the memory.

    Raises:
        InputError: the grid, the baseline, the output or the batch size do not fit; under a named
            output, a label that is no class.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    if isinstance(output, str) and output not in OUTPUTS:
        raise InputError(f"unknown output {output!r}: choose {', '.join(OUTPUTS)} or a function.")
    predict, images = as_logits(predict), jnp.asarray(images)
    shown = jnp.asarray(baseline(images) if callable(baseline) else baseline, images.dtype)
    try:
        fits = np.broadcast_shapes(shown.shape, images.shape) == images.shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"a baseline of shape {shown.shape} does not fit images of shape {images.shape}: give "
            "a scalar, a colour, an image, or one image for each."
        )
    if labels is None:
        labels = _predicted(predict, batch_size, variables, images)
    elif isinstance(output, str):  # what labels are to another function is the user's to say
        one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
        check_labels(labels, len(images), jax.eval_shape(predict, variables, one))
    return PatchGame(
        predict=predict,
        variables=variables,
        images=images,
        labels=jnp.asarray(labels),
        baseline=shown,
        output=OUTPUTS[output] if isinstance(output, str) else output,
        grid=checked_grid(grid, (images.shape[1], images.shape[2])),
        batch_size=batch_size,
    )


@lru_cache(maxsize=32)
def computing_in(predict: Predict, dtype: str) -> Predict:
    """`predict` with its images and floating-point variables in another precision.

    "bfloat16" halves the bytes, and on most accelerators doubles the speed. A model that fixes its
    own precision keeps it. The logits come back in float32. The same arguments give the same
    function, so that nothing compiles twice.
    """
    predict = as_logits(predict)

    def cast(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        result: Array = leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        return result

    def predict_in_dtype(variables: Any, images: Array) -> Array:
        result: Array = predict(jax.tree.map(cast, variables), cast(images)).astype(jnp.float32)
        return result

    return predict_in_dtype


def painted(
    masks: Bool[Array, "*#batch players"],
    images: Float[Array, "*#batch height width channels"],
    absent: Float[Array, "*#batch height width channels"],
    grid: tuple[int, int],
) -> Float[Array, "*all height width channels"]:
    """The images where a coalition holds their patches, and `absent` elsewhere."""
    rows = cell_of_pixel(images.shape[-3], grid[0])
    columns = cell_of_pixel(images.shape[-2], grid[1])
    present = masks.reshape(*masks.shape[:-1], *grid)[..., rows, :][..., columns, None]
    return jnp.where(present, images, absent)


@jax.jit
def _values(game: PatchGame, masks: Bool[Array, "coalitions players"]) -> Array:
    absent = jnp.broadcast_to(game.baseline, game.images.shape)

    def of_images(block: tuple[Array, Array, Array]) -> Array:
        images, labels, absent = block

        # One batch of coalitions × images, rather than vmap over both: `predict` then sees the
        # batches it was made for, and costs what plain forward passes cost.
        def of_coalitions(masks: Array) -> Array:
            shown = painted(masks[:, None], images, absent, game.grid)
            logits = game.predict(game.variables, shown.reshape(-1, *images.shape[1:]))
            values = game.output(logits, jnp.tile(labels, len(masks)))
            return values.reshape(len(masks), len(labels))

        return map_blocks(of_coalitions, masks, game.batch_size // len(labels)).T

    return map_blocks(of_images, (game.images, game.labels, absent), game.batch_size).T


@partial(jax.jit, static_argnums=(0, 1))
def _predicted(predict: Predict, batch_size: int, variables: Any, images: Array) -> Array:
    def of_images(images: Array) -> Array:
        return jnp.argmax(predict(variables, images), axis=-1)

    return map_blocks(of_images, images, batch_size)
