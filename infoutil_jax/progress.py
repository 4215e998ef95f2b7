"""How far long work is: a bar for people at a terminal, events for programs (host).

Every long stage has one `Bar`. A terminal or a notebook sees it; a log file, which would fill with
copies of it, does not. Listeners are told all the same:

    with progress.listening(progress.json_lines("run.jsonl")):
        run(source, "runs/mine")
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook

from infoutil_jax import files
from infoutil_jax.errors import InputError

Event = Mapping[str, Any]
"""Of a stage: "stage", "done", "total", "unit", "seconds" since it began, "memory_gib" at most so
far, and its figures, such as "loss". Of something to be known: "note"."""
Listener = Callable[[Event], None]

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tells `listener` every event of this process; closes it at the end, if it can be closed."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
        getattr(listener, "close", lambda: None)()


def json_lines(path: str | Path) -> Listener:
    """A listener that appends a line of JSON an event, with the "time" in seconds since 1970.

    Raises:
        InputError: `path` cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise InputError(f"{path} cannot be written to: {error.strerror}") from None

    def write(event: Event) -> None:
        with files.naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **event}) + "\n")

    return write


def tensorboard(folder: str | Path) -> Listener:
    """A listener that writes the figures of every stage for TensorBoard.

    Raises:
        InputError: the package tensorboardX is not there.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "TensorBoard's files need a package: pip install 'infoutil-jax[tensorboard]'"
        ) from None
    return _TensorBoard(SummaryWriter(str(folder)))


class _TensorBoard:
    """Writes figures, the last of them when it is closed."""

    about = ("stage", "done", "total", "unit", "note")

    def __init__(self, writer: Any):
        self.writer, self.close = writer, writer.close

    def __call__(self, event: Event) -> None:
        figures = {name: value for name, value in event.items() if name not in self.about}
        for name, value in figures.items():
            self.writer.add_scalar(f"{event['stage']}/{name}", value, event["done"])


class Bar:
    """One stage of long work.

    Args:
        stage: what is done.
        total: of how many `unit`.
        unit: what is counted.
        done: how many were there before.
        shown: show a bar where somebody can see it; listeners are told in any case.
    """

    def __init__(
        self, stage: str, total: int, *, unit: str = "it", done: int = 0, shown: bool = True
    ):
        self.stage, self.total, self.unit, self.done = stage, total, unit, done
        self.started = time.perf_counter()
        self.drawn = tqdm(
            total=total, initial=done, desc=stage, unit=unit, disable=not (shown and _seen())
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.drawn.close()

    def extend(self, count: int) -> None:
        """There are `count` more to do than was known."""
        self.total += count
        self.drawn.total = self.total

    def update(self, count: int = 1, **figures: float) -> None:
        """So many more are done.

        Args:
            count: how many.
            **figures: of the stage by now, as its loss.
        """
        self.done += count
        if self.drawn.disable and not _listeners:
            return
        memory = peak_bytes() / 2**30
        shown = [f"{name}={value:.4g}" for name, value in figures.items()]
        self.drawn.set_postfix_str(", ".join([*shown, f"{memory:.1f} GiB"]), refresh=False)
        self.drawn.update(count)
        _tell(
            {
                "stage": self.stage,
                "done": self.done,
                "total": self.total,
                "unit": self.unit,
                "seconds": round(time.perf_counter() - self.started, 3),
                "memory_gib": round(memory, 3),
                **figures,
            }
        )


def note(text: str, *, shown: bool = True) -> None:
    """Says something that is to be known, on a line of its own, and tells the listeners."""
    if shown:
        tqdm.write(text, file=sys.stderr)
    _tell({"note": text})


def peak_bytes() -> int:
    """The most memory of this process so far, or of its device where JAX tells it."""
    stats = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return int(stats.get("peak_bytes_in_use") or host)


def _tell(event: Event) -> None:
    for listener in _listeners:
        listener(event)


def _seen() -> bool:
    """Whether somebody sees a bar: in a notebook, whose kind tqdm has chosen, or a terminal."""
    return issubclass(tqdm, tqdm_notebook) or sys.stderr.isatty()
