"""The latest state of long work on disk, to go on from after a stop (Orbax on the host)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from infoutil_jax.training import checkpoint

GUESS = 0.2
"""Seconds that saving is taken to need until it has been measured."""


class Latest:
    """Keeps the latest state of some work in a folder; nothing where there is no folder.

    Args:
        folder: of this work alone: name it by all that the state depends on. It is made when
            something is saved for the first time.
        share: of the time since the work began, the most that saving may take; 1 saves each state.
    """

    def __init__(self, folder: Path | None, share: float = 1.0):
        self.folder, self.share = None if folder is None else folder.absolute(), share
        self.manager: ocp.CheckpointManager | None = None
        self.cost, self.saved = GUESS, time.perf_counter()

    def __enter__(self) -> Latest:
        return self

    def __exit__(self, *_: object) -> None:
        if self.manager is not None:
            self.manager.close()

    def latest(self, like: Any) -> tuple[int, Any]:
        """The last saved step and its state, of NumPy arrays, or 0 and `like`.

        Raises:
            InputError: what is there is damaged.
        """
        if self.folder is None or not self.folder.is_dir():
            return 0, like
        return checkpoint.resume(self._opened(self.folder), like)

    def save(self, step: int, state: Any) -> None:
        """Saves a state, unless one was saved so lately that it would take too much of the time.

        The arrays may be donated afterwards.

        Raises:
            OSError: the disk refuses; the state that was saved before is still there.
        """
        now = time.perf_counter()
        if self.folder is None or (self.share < 1 and (now - self.saved) * self.share < self.cost):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with checkpoint.saving(self.folder, state):
            self._opened(self.folder).save(step, args=ocp.args.StandardSave(state))
        self.saved = time.perf_counter()
        self.cost = self.saved - now

    def _opened(self, folder: Path) -> ocp.CheckpointManager:
        if self.manager is None:
            options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
            self.manager = ocp.CheckpointManager(folder, options=options)
        return self.manager
