"""`infoutil quickstart`, as `cli.VERBS` describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from infoutil_jax.app.flags import Group
from infoutil_jax.app.options import Logs


@dataclass(frozen=True)
class Quickstart:
    """Options of `infoutil quickstart`."""

    workdir: Path = Path("runs/quickstart")
    """Where the teacher, the sets and the picture go."""
    logs: Annotated[Logs, Group] = Logs()

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax import locks
        from infoutil_jax.app.quickstart import quickstart

        with locks.locked(self.workdir):
            quickstart(self.workdir)
