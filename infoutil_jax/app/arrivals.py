"""A source's training images as a stream: each once, in random order (host)."""

from __future__ import annotations

import numpy as np

from infoutil_jax import progress
from infoutil_jax.data.sources import Source
from infoutil_jax.distillation import Stream
from infoutil_jax.errors import InputError


def followed(stream: Stream, source: Source, at_once: int, *, shown: bool = True) -> Stream:
    """The stream after those training images of a source that it has not taken in yet.

    The order is drawn by the stream's seed. A source is known by its fingerprint: after a stop the
    rest of it comes, and one that has come already is not taken in again. A source to which images
    were added is another one, so give new images as a source of their own.

    Args:
        stream: it knows the source's classes, by their names.
        source: where images come from.
        at_once: images of an update.
        shown: show a progress line.

    Raises:
        InputError: a class that the stream's teacher does not know, or as `Stream.update`.
    """
    names, train, origin = stream.plan.class_names, source.train, source.fingerprint()
    for name in [name for name in source.class_names if name not in names][:1]:
        raise InputError(
            f"{source.spec} has a class {name!r}, which the stream's teacher does not know: a "
            "teacher has to know all classes beforehand"
        )
    label_of = np.array([names.index(name) for name in source.class_names], np.int32)
    order = np.random.default_rng(stream.plan.seed).permutation(len(train))
    done = stream.taken(origin)
    with progress.Bar("streaming", len(train), unit="image", done=done, shown=shown) as bar:
        for ids, images in train.batches(order[done:], at_once):
            labels = label_of[train.labels[ids]]
            stream = stream.update(images, labels, [train.ids[i] for i in ids], origin=origin)
            bar.update(len(ids))
    return stream
