"""Reading examples in parallel with Grain, and telling which cannot be read. On the host."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from PIL import UnidentifiedImageError

from infoutil_jax.data.examples import Examples
from infoutil_jax.data.rasters import Encoded
from infoutil_jax.errors import InputError

_CHUNK = 32  # images a thread takes at a time

T = TypeVar("T")


def read(examples: Examples, use: Callable[[Encoded], T], index: int) -> T:
    """Reads one example and applies `use` to it.

    Raises:
        InputError: whatever went wrong, with the example's name.
    """
    try:
        return use(examples.read(index))
    except Exception as error:  # decoders fail in as many ways as files are damaged
        reason = str(error)
        if isinstance(error, UnidentifiedImageError):
            reason = "it is in no format that Pillow knows"
        raise InputError(f"{examples.ids[index]} cannot be read as an image: {reason}") from error


def threaded(
    function: Callable[[int], T], indices: Sequence[int] | np.ndarray, threads: int
) -> Iterator[T]:
    """Yields function(i) for each index, in order; threads work a little ahead."""
    import grain  # takes a second

    chunks = [indices[i : i + _CHUNK] for i in range(0, len(indices), _CHUNK)]
    dataset = grain.MapDataset.source(chunks).map(lambda chunk: [function(int(i)) for i in chunk])
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    for results in dataset.to_iter_dataset(ahead):
        yield from results


def threads_for(sizes: Sequence[tuple[int, int]]) -> int:
    """Number of decoding threads: one for small images, where the interpreter takes the time."""
    large = sum(height * width for height, width in sizes) > 64**2 * len(sizes)
    return (os.cpu_count() or 1) if large else 1


def check(
    examples: Examples,
    use: Callable[[Encoded], T],
    keep: Callable[[int, T], None],
    rows: Sequence[int],
    *,
    threads: int,
    skip_unreadable: bool,
) -> set[int]:
    """Calls keep(i, use(example i)) for all of `rows` that can be read; returns those that cannot.

    Raises:
        InputError: some cannot be read, and `skip_unreadable` is not set; it names the first.
    """

    def attempt(index: int) -> T | InputError:
        try:
            return read(examples, use, index)
        except InputError as error:
            return error

    failures: dict[int, InputError] = {}
    for index, result in zip(rows, threaded(attempt, rows, threads), strict=True):
        if isinstance(result, InputError):
            failures[index] = result
        else:
            keep(index, result)
    if failures and not skip_unreadable:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise InputError(
            f"{next(iter(failures.values()))}{more}; repair or remove it, "
            "or leave it out with skip_unreadable=True"
        )
    return set(failures)
