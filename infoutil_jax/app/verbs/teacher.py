"""`infoutil teacher`, as `cli.VERBS` describes it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from infoutil_jax import ranges
from infoutil_jax.app.flags import Flat, Group, say_defaults
from infoutil_jax.app.options import DeviceCount, Logs, SourceOptions
from infoutil_jax.training.config import TeacherConfig


@dataclass(frozen=True)
class TrainTeacher:
    """Options of `infoutil teacher`."""

    data: Annotated[SourceOptions, Group]
    workdir: Path
    """Where the checkpoints go."""
    config: Annotated[TeacherConfig, Flat] = TeacherConfig()
    seed: int = 0
    """Of weights and batches."""
    devices: DeviceCount = "all"
    """Of this machine, that share each batch."""
    logs: Annotated[Logs, Group] = Logs()

    def __post_init__(self) -> None:
        ranges.check(self)

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax import parallel
        from infoutil_jax.app.accounts import account_of
        from infoutil_jax.app.command_line import source_flags
        from infoutil_jax.app.forecast import forecast
        from infoutil_jax.app.pipeline import train_teachers

        devices = parallel.devices_of(self.devices)
        source = self.data.open()
        if not (self.workdir / "stages" / "converged.json").exists():  # else they are loaded
            print(forecast(source, 0, 0, self.config, None))
        teachers = train_teachers(
            source, self.workdir, self.config, seed=self.seed, devices=devices
        )
        print(account_of(teachers, teachers["converged"], source)[0])
        words = ["distill", source.spec, *source_flags(source), "--teacher", str(self.workdir)]
        print(f"teachers: {self.workdir}\nnext: infoutil {shlex.join(words)} --workdir SET")


say_defaults(TrainTeacher)
