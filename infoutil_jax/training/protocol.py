"""What a student sees and is taught, compiled into one program of whole epochs (JAX)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from infoutil_jax.data import augment
from infoutil_jax.data.autoaugment import autoaugment
from infoutil_jax.data.siamese import Siamese
from infoutil_jax.training import fit
from infoutil_jax.training.config import StudentConfig

# Of DSA what leaves each tile in its place.
RECOLOURED = Siamese(flip=False, shift=0.0)


@dataclass(frozen=True)
class Protocol:
    """All that a compiled program depends on, apart from shapes.

    Attributes:
        apply: `apply(variables, images) -> (logits, variables)`, training mode.
        teach: `teach(variables, images) -> logits`, of the teacher that labels views online.
        config: of the students, complete.
        num_classes: outputs of the students.
        batch_size: images a step.
        tiles: images in each image's square grid.
    """

    apply: Callable[..., Any]
    teach: Callable[..., Array] | None
    config: StudentConfig
    num_classes: int
    batch_size: int
    tiles: int = 1

    @property
    def temperature(self) -> float:
        """Of the soft labels."""
        return cast(float, self.config.temperature)  # which is complete

    @property
    def crop_scale(self) -> tuple[float, float]:
        """Area of the random resized crops, low and high: RDED's by the tiles, unless chosen."""
        return self.config.crop_scale or (self.tiles**-0.5, 1.0)


def tile_areas(
    boxes: Int[Array, "batch 4"],
    flipped: Bool[Array, " batch"],
    image_size: tuple[int, int],
    tiles: int,
    window: Int[Array, "4"] | Int[Array, "batch 4"],
) -> Float[Array, "batch tiles"]:
    """Area that each place of the grid takes of a view's window.

    A view shows the box of an image, mirrored or not, resized to the image's size.

    Args:
        boxes: (top, left, height, width) in pixels of the image.
        flipped: mirrored views.
        image_size: height and width in pixels.
        tiles: places of the square grid, counted by rows.
        window: (top, left, height, width) in pixels of the view; of each, or of all alike.

    Returns:
        In units of the view's whole area: rows sum to the window's.
    """
    side = round(tiles**0.5)

    def shares(
        start: Array, length: Array, size: int, low: Array, extent: Array, mirrored: Array
    ) -> Array:
        low, high = low / size, (low + extent) / size
        low, high = jnp.where(mirrored, 1 - high, low), jnp.where(mirrored, 1 - low, high)
        first, last = start + low * length, start + high * length
        edges = jnp.arange(side + 1) * (size / side)
        inside = jnp.minimum(last[:, None], edges[1:]) - jnp.maximum(first[:, None], edges[:-1])
        return jnp.maximum(inside, 0) / length[:, None]

    (height, width), never = image_size, jnp.zeros_like(flipped)
    top, left, *extent = jnp.moveaxis(window, -1, 0)
    rows = shares(boxes[:, 0], boxes[:, 2], height, top, extent[0], never)
    columns = shares(boxes[:, 1], boxes[:, 3], width, left, extent[1], flipped)
    return (rows[:, :, None] * columns[:, None, :]).reshape(-1, tiles)


def view(
    protocol: Protocol,
    context: Mapping[str, Any],
    key: Key[Array, ""],
    batch: tuple[Array, Array, Array],
) -> tuple[Float[Array, "batch height width channels"], Float[Array, "batch classes"]]:
    """An augmented, mixed batch and the class probabilities that students are taught about it.

    Args:
        protocol: says which augmentations and labels there are.
        context: "normalise", the students' `Normalisation`, and "teacher", its variables.
        key: randomness of the batch.
        batch: pixels, labels, and stored logits `[batch, tiles, classes]`.
    """
    config, (images, labels, soft) = protocol.config, batch
    size = (images.shape[1], images.shape[2])
    keys = jax.random.split(key, 4)
    if config.autoaugment:
        images = autoaugment(jax.random.fold_in(key, 4), images, config.autoaugment)
    images = context["normalise"](images)
    order = jnp.tile(jnp.arange(protocol.tiles), (len(labels), 1))
    if protocol.tiles > 1 and config.shuffle:
        images, order = augment.shuffle_tiles(keys[0], images, protocol.tiles)
    images, boxes = augment.random_resized_crop(keys[1], images, protocol.crop_scale)
    flipped = jnp.zeros(len(labels), bool)
    if config.flip:
        images, flipped = augment.horizontal_flip(keys[2], images)
    turns = jnp.zeros(len(labels), int)
    if config.turn:
        images, turns = augment.quarter_turns(jax.random.fold_in(key, 5), images)
    if config.dsa:
        draws = jax.random.split(jax.random.fold_in(key, 6), len(labels))
        images = jax.vmap(lambda draw, one: RECOLOURED(draw, one[None])[0])(draws, images)
    partner, share, window = jnp.arange(len(labels)), jnp.ones(()), jnp.zeros(4, int)
    if config.cutmix:
        images, partner, share, window = augment.cutmix(keys[3], images)

    if protocol.teach is not None:
        logits = protocol.teach(context["teacher"], images)
        return images, jax.nn.softmax(logits / protocol.temperature)
    if config.labels == "hard":
        targets = jax.nn.one_hot(labels, protocol.num_classes)
        return images, share * targets + (1 - share) * targets[partner]
    # An image's own pixels are those outside of the pasted window, its partner's those inside.
    whole = jnp.array([0, 0, *size])
    upright = augment.before_turns(window, turns, size)
    pasted = tile_areas(boxes, flipped, size, protocol.tiles, upright)
    kept = tile_areas(boxes, flipped, size, protocol.tiles, whole) - pasted
    probabilities = jax.nn.softmax(soft / protocol.temperature)
    probabilities = jnp.take_along_axis(probabilities, order[:, :, None], axis=1)
    own = jnp.einsum("bt,btc->bc", kept, probabilities)
    return images, own + jnp.einsum("bt,btc->bc", pasted, probabilities)[partner]


def loss(
    protocol: Protocol,
    logits: Float[Array, "batch classes"],
    targets: Float[Array, "batch classes"],
) -> Float[Array, ""]:
    """Cross-entropy for hard labels, else KL(target || student) at the temperature."""
    config = protocol.config
    if config.labels == "hard":
        losses: Array = optax.softmax_cross_entropy(logits, targets)
    else:
        predictions = jax.nn.log_softmax(logits / protocol.temperature)
        losses = optax.kl_divergence(predictions, targets)
    return losses.mean()


def optimiser(protocol: Protocol, steps: int) -> optax.GradientTransformation:
    """AdamW with RDED's rate: half a cosine's period over twice the epochs, by whole epochs.

    Args:
        protocol: its config gives the first rate, the decay (of tensors of two or more dimensions)
            and the number of epochs.
        steps: of an epoch.
    """
    config = protocol.config

    def rate(step: Any) -> Any:
        epoch = step // steps
        return config.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * epoch / (2 * config.epochs)))

    return optax.adamw(
        rate,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim >= 2, params),
    )


@lru_cache(maxsize=32)
def program(protocol: Protocol) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Two compiled functions, kept for the next students of the same protocol.

    Returns:
        `init(variables, num_examples)`, which gives the state before the first step, and `run`,
        which trains all seeds for some epochs.
    """

    def training(num_examples: int) -> fit.Fit:
        return fit.Fit(
            protocol.apply,
            partial(view, protocol),
            partial(loss, protocol),
            optimiser(protocol, fit.steps_per_epoch(num_examples, protocol.batch_size)),
            protocol.batch_size,
        )

    @partial(jax.jit, static_argnums=1)
    def init(variables: Any, num_examples: int) -> Any:
        return jax.vmap(training(num_examples).init)(variables)

    @partial(jax.jit, donate_argnums=0)
    def run(
        carry: Any, keys: Array, sets: Any, context: Any, data: Any, first: Any, stop: Any
    ) -> Any:
        one_fit = training(len(data[1]))

        def one_seed(arguments: Any) -> Any:
            state, losses, key, own = arguments
            seen = data if own is None else (own[0], data[1], own[1])

            def epoch(number: Array, carry: tuple[fit.State, Array]) -> tuple[fit.State, Array]:
                state, losses = carry
                state, loss, _ = fit.run_epoch(one_fit, state, key, context, seen, number)
                return state, losses.at[number].set(loss)

            return jax.lax.fori_loop(first, stop, epoch, (state, losses))

        arguments, at_once = (*carry, keys, sets), min(protocol.config.seeds_at_once, len(keys))
        if at_once == 1:
            return jax.lax.map(one_seed, arguments)
        if at_once == len(keys):
            return jax.vmap(one_seed)(arguments)
        return jax.lax.map(one_seed, arguments, batch_size=at_once)

    return init, run
