"""`infoutil forget`, as `cli.VERBS` describes it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from infoutil_jax import ranges
from infoutil_jax.app.flags import Group, say_defaults
from infoutil_jax.app.options import DeviceCount, Logs, NamedSource
from infoutil_jax.distillation.config import DistillConfig


@dataclass(frozen=True)
class Forget:
    """Options of `infoutil forget`."""

    distilled: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SET")]
    """Folder of `infoutil distill`; a set without the images takes its place."""
    source_id: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="ID")]
    """A training image, as infoutil explain names it; once for each."""
    data: Annotated[NamedSource, Group]
    teacher: Path | None = None
    """Folder of `infoutil teacher`; by default teacher/ beside the set."""
    devices: DeviceCount = "all"
    """Of this machine, that share the work."""
    batch_size: int = DistillConfig.batch_size
    """Images in flight at once on each device."""
    logs: Annotated[Logs, Group] = Logs()

    def __post_init__(self) -> None:
        ranges.check(self)

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax import parallel
        from infoutil_jax.app.command_line import source_flags
        from infoutil_jax.app.governance import forget
        from infoutil_jax.app.governance.again import made_with

        source, teachers = made_with(self.distilled, self.data.open, self.teacher)
        devices = parallel.devices_of(self.devices)
        done = forget(
            self.distilled,
            self.source_id,
            source,
            teachers,
            config=DistillConfig(batch_size=self.batch_size, devices=devices),
        )
        count = len(self.source_id)
        print(
            f"{done.distilled}: made again without {count} image{'s' * (count != 1)}, of which the "
            f"earlier set had {done.tiles} tile{'s' * (done.tiles != 1)}\n"
            f"digest: {done.distilled.digest}"
        )
        for file in done.removed:
            print(f"removed, for it showed the earlier set: {file}")
        for folder in done.elsewhere:
            print(f"has tiles of what was forgotten still: {folder}")
        print("left as they are: the source, teachers, and students of the earlier set")
        words = ["audit", str(self.distilled), "--source", source.spec, *source_flags(source)]
        words += ["--teacher", str(self.teacher)] if self.teacher else []
        print(f"next: infoutil {shlex.join(words)}")


say_defaults(Forget)
