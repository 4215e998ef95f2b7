"""`infoutil audit`, as `cli.VERBS` describes it."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from infoutil_jax import ranges
from infoutil_jax.app.flags import Group, say_defaults
from infoutil_jax.app.options import DeviceCount, Logs, NamedSource
from infoutil_jax.distillation.config import DistillConfig


@dataclass(frozen=True)
class AuditSet:
    """Options of `infoutil audit`."""

    distilled: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SET")]
    """Folder of `infoutil distill`."""
    data: Annotated[NamedSource, Group]
    teacher: Path | None = None
    """Folder of `infoutil teacher`; by default teacher/ beside the set."""
    tolerance: float = 1e-3
    """Relative difference of scores, maps and logits that is rounding."""
    json: bool = False
    """Print one JSON object, for programs."""
    devices: DeviceCount = "all"
    """Of this machine, that share the work."""
    batch_size: int = DistillConfig.batch_size
    """Images in flight at once on each device."""
    logs: Annotated[Logs, Group] = Logs()

    def __post_init__(self) -> None:
        ranges.check(self)

    def __call__(self) -> int:
        """Runs it; 1 where something differs."""
        import json

        from infoutil_jax import parallel
        from infoutil_jax.app.governance import audit
        from infoutil_jax.app.governance.again import made_with

        with redirect_stdout(sys.stderr):  # what is found is all that a program reads
            source, teachers = made_with(self.distilled, self.data.open, self.teacher)
        found = audit(
            self.distilled,
            source,
            teachers,
            tolerance=self.tolerance,
            config=DistillConfig(
                batch_size=self.batch_size, devices=parallel.devices_of(self.devices)
            ),
        )
        print(json.dumps(found.as_json(), indent=1) if self.json else found)
        return int(not found.passed)


say_defaults(AuditSet)
