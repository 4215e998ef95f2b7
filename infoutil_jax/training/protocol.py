"""What a student sees and is taught, compiled into one program of whole epochs (JAX)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from infoutil_jax.data import augment
from infoutil_jax.data.autoaugment import autoaugment
from infoutil_jax.training import fit

LabelPolicy = Literal["online", "stored", "hard"]


@dataclass(frozen=True)
class Protocol:
    """All that a compiled program depends on, apart from shapes."""

    apply: Callable[..., Any]
    teach: Callable[..., Array] | None
    label_policy: str
    num_classes: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    temperature: float
    flip: bool
    crop_scale: tuple[float, float]
    cutmix: bool
    tiles: int
    shuffle: bool
    autoaugment: str | None
    seeds_at_once: int


def tile_areas(
    boxes: Int[Array, "batch 4"],
    flipped: Bool[Array, " batch"],
    image_size: tuple[int, int],
    tiles: int,
    window: Int[Array, "4"],
) -> Float[Array, "batch tiles"]:
    """Area that each place of the grid takes of a view's window.

    A view shows the box of an image, mirrored or not, resized to the image's size.

    Args:
        boxes: (top, left, height, width) in pixels of the image.
        flipped: mirrored views.
        image_size: height and width in pixels.
        tiles: places of the square grid, counted by rows.
        window: (top, left, height, width) in pixels of the view.

    Returns:
        In units of the view's whole area: rows sum to the window's.
    """
    side = round(tiles**0.5)

    def shares(start, length, size, low, extent, mirrored):
        low, high = low / size, (low + extent) / size
        low, high = jnp.where(mirrored, 1 - high, low), jnp.where(mirrored, 1 - low, high)
        first, last = start + low * length, start + high * length
        edges = jnp.arange(side + 1) * (size / side)
        inside = jnp.minimum(last[:, None], edges[1:]) - jnp.maximum(first[:, None], edges[:-1])
        return jnp.maximum(inside, 0) / length[:, None]

    (height, width), never = image_size, jnp.zeros_like(flipped)
    rows = shares(boxes[:, 0], boxes[:, 2], height, window[0], window[2], never)
    columns = shares(boxes[:, 1], boxes[:, 3], width, window[1], window[3], flipped)
    return (rows[:, :, None] * columns[:, None, :]).reshape(-1, tiles)


def view(protocol: Protocol, context: Mapping[str, Any], key: Array, batch: Any):
    """One augmented, mixed batch and the class probabilities that it is taught."""
    images, labels, soft = batch
    size = (images.shape[1], images.shape[2])
    keys = jax.random.split(key, 4)
    if protocol.autoaugment:
        images = autoaugment(jax.random.fold_in(key, 4), images, protocol.autoaugment)
    images = augment.normalise(images, context["mean"], context["std"])
    order = jnp.tile(jnp.arange(protocol.tiles), (len(labels), 1))
    if protocol.tiles > 1 and protocol.shuffle:
        images, order = augment.shuffle_tiles(keys[0], images, protocol.tiles)
    images, boxes = augment.random_resized_crop(keys[1], images, protocol.crop_scale)
    flipped = jnp.zeros(len(labels), bool)
    if protocol.flip:
        images, flipped = augment.horizontal_flip(keys[2], images)
    partner, share, window = jnp.arange(len(labels)), jnp.ones(()), jnp.zeros(4, int)
    if protocol.cutmix:
        images, partner, share, window = augment.cutmix(keys[3], images)

    if protocol.teach is not None:
        logits = protocol.teach(context["teacher"], images)
        return images, jax.nn.softmax(logits / protocol.temperature)
    if protocol.label_policy == "hard":
        targets = jax.nn.one_hot(labels, protocol.num_classes)
        return images, share * targets + (1 - share) * targets[partner]
    # An image's own pixels are those outside of the pasted window, its partner's those inside.
    whole = jnp.array([0, 0, *size])
    pasted = tile_areas(boxes, flipped, size, protocol.tiles, window)
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
    if protocol.label_policy == "hard":
        return optax.softmax_cross_entropy(logits, targets).mean()
    predictions = jax.nn.log_softmax(logits / protocol.temperature)
    return optax.kl_divergence(predictions, targets).mean()


def optimiser(protocol: Protocol, steps: int) -> optax.GradientTransformation:
    """AdamW with RDED's rate: half a cosine's period over twice the epochs, by whole epochs.

    Args:
        protocol: gives the first rate, the decay (of tensors of two or more dimensions) and the
            number of epochs.
        steps: of an epoch.
    """

    def rate(step):
        epoch = step // steps
        return protocol.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * epoch / (2 * protocol.epochs)))

    return optax.adamw(
        rate,
        weight_decay=protocol.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim >= 2, params),
    )


@lru_cache(maxsize=32)
def program(protocol: Protocol):
    """`init(variables)` and the compiled `run` over epochs; kept for the next student alike."""

    def training(num_examples: int) -> fit.Fit:
        return fit.Fit(
            protocol.apply,
            partial(view, protocol),
            partial(loss, protocol),
            optimiser(protocol, fit.steps_per_epoch(num_examples, protocol.batch_size)),
            protocol.batch_size,
        )

    @partial(jax.jit, static_argnums=1)
    def init(variables, num_examples):
        return jax.vmap(training(num_examples).init)(variables)

    @partial(jax.jit, donate_argnums=0)
    def run(carry, keys, sets, context, data, first, stop):
        one_fit = training(len(data[1]))

        def one_seed(arguments):
            state, losses, key, images = arguments
            seen = data if images is None else (images, *data[1:])

            def epoch(number, carry):
                state, losses = carry
                state, loss, _ = fit.run_epoch(one_fit, state, key, context, seen, number)
                return state, losses.at[number].set(loss)

            return jax.lax.fori_loop(first, stop, epoch, (state, losses))

        arguments = (*carry, keys, sets)
        if protocol.seeds_at_once == 1:
            return jax.lax.map(one_seed, arguments)
        if protocol.seeds_at_once >= len(keys):
            return jax.vmap(one_seed)(arguments)
        return jax.lax.map(one_seed, arguments, batch_size=protocol.seeds_at_once)

    return init, run
