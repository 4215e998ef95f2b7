"""Example forgetting: how often training unlearns an example (NumPy on the host).

Source: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network
Learning", ICLR 2019 (arXiv 1812.05159), Definitions in Section 3 and Algorithm 1. `train_teacher`
counts for its converged run; `recipes.forgetting` selects by the counts.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Array, Bool, Float, Int, Int32

from infoutil_jax import files
from infoutil_jax.errors import InputError
from infoutil_jax.training import checkpoint

FILE = Path("stages", "forgetting.safetensors")


class Forgetting(NamedTuple):
    """What training has shown of every example.

    Attributes:
        events: times that it went from classified correctly to incorrectly.
        correct: whether it was classified correctly when last seen; not before it was seen.
    """

    events: Int32[np.ndarray, " n"]
    correct: Bool[np.ndarray, " n"]


def start(num_examples: int) -> Forgetting:
    """Before the first step: nothing has been learnt, hence nothing forgotten."""
    return Forgetting(np.zeros(num_examples, np.int32), np.zeros(num_examples, bool))


def correct(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Bool[Array, " batch"]:
    """Which examples have their largest logit at their label; on the device, for `Fit.observe`."""
    return logits.argmax(-1) == labels


def count(
    state: Forgetting,
    rows: Int[Array | np.ndarray, "*steps"],
    right: Bool[Array | np.ndarray, "*steps"],
) -> Forgetting:
    """The state after some mini-batches.

    Args:
        state: before them.
        rows: numbers of their examples, each at most once (as within an epoch).
        right: which of those were classified correctly.
    """
    rows, right = np.asarray(rows), np.asarray(right)
    events, last = state.events.copy(), state.correct.copy()
    events[rows] += last[rows] & ~right
    last[rows] = right
    return Forgetting(events, last)


def marked(state: Forgetting, epochs: int) -> Int32[np.ndarray, " n"]:
    """The number of events of each example, `epochs` where it was never classified correctly.

    An event takes two epochs, one to learn and one to forget, so no count reaches `epochs`:
    never learnt ranks as most forgotten, as in the source.
    """
    learnt = state.correct | (state.events > 0)
    return np.where(learnt, state.events, np.int32(epochs))


def save(workdir: Path, state: Forgetting, epochs: int) -> None:
    """Writes the marked events of a run of `epochs`, to a file that is whole or not there."""
    content = safetensors.numpy.save({"events": marked(state, epochs)})
    (workdir / FILE).parent.mkdir(exist_ok=True)
    files.write(workdir / FILE, content)


def load_forgetting(workdir: str | Path) -> Int32[np.ndarray, " n"]:
    """Forgetting events of every training image of a teacher that `train_teacher` has finished.

    Counted over the converged run, on the augmented mini-batches that it trained on, before each
    one's update. An epoch's remainder, which is in no mini-batch, is not seen in that epoch.

    Examples:
        >>> recipe = forgetting(load_forgetting("teacher"))  # doctest: +SKIP
        >>> distill(source, teacher, recipe, workdir="coreset")  # doctest: +SKIP

    Args:
        workdir: the directory that was given to `train_teacher`.

    Returns:
        In the order of the training images: 0 for those that were learnt and never forgotten;
        the run's number of epochs, which no count can reach, for those never classified
        correctly (or, in a run of a few epochs, never seen).

    Raises:
        InputError: no such directory, a run that is not finished or from before events were
            counted, or a file that cannot be read.
    """
    workdir = Path(workdir).absolute()
    checkpoint.read_config(workdir)
    if "converged" not in checkpoint.finished(workdir):
        raise InputError(f"the converged teacher in {workdir} is not finished: train it to the end")
    try:
        return safetensors.numpy.load((workdir / FILE).read_bytes())["events"]
    except FileNotFoundError:
        raise InputError(
            f"the teacher in {workdir} has no forgetting events: its weights were given, or "
            "it is from before they were counted; train one in another directory"
        ) from None
    except (OSError, safetensors.SafetensorError, KeyError) as error:
        raise InputError(
            f"{workdir / FILE} cannot be read ({error}): train the teacher again in another "
            "directory"
        ) from error
