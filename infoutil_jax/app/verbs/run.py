"""`infoutil run`, as `cli.VERBS` describes it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from infoutil_jax.app.config import RunConfig
from infoutil_jax.app.flags import Flat, Group, say_defaults
from infoutil_jax.app.options import DeviceCount, Logs, SourceOptions, default_workdir


@dataclass(frozen=True)
class Run:
    """Options of `infoutil run`."""

    data: Annotated[SourceOptions, Group]
    workdir: Path | None = None
    """By default runs/ and the source's name, with six digits of its path's hash for a folder."""
    overwrite: bool = False
    """Replace a set that is there and was made by other arguments."""
    devices: DeviceCount = "all"
    """Of this machine, that share the work."""
    config: Annotated[RunConfig, Flat] = RunConfig()
    logs: Annotated[Logs, Group] = Logs()

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax import locks, parallel
        from infoutil_jax.app.accounts import accuracy_table
        from infoutil_jax.app.compilations import Compilations
        from infoutil_jax.app.pipeline import run

        self.config.recipe.check()  # before images are read
        source = self.data.open()
        workdir = self.workdir or default_workdir(source)
        devices = parallel.devices_of(self.devices)
        with locks.locked(workdir):
            summary = run(source, workdir, self.config, devices=devices, overwrite=self.overwrite)
        budget = summary["images_per_class"]
        rows = {f"student, {self.config.recipe.recipe}": {budget: summary["student"]["top1"]}}
        if summary["random"]:
            rows["student, random images"] = {budget: summary["random"]["top1"]}
        print(accuracy_table(rows))
        print(Compilations(**summary["programs"]))
        print(
            f"set: {workdir / 'distilled'}, digest {summary['digest']}\n"
            f"picture: {workdir / 'overview.png'}\n"
            f"figures: {workdir / 'summary.json'}\n"
            f"next: infoutil report {shlex.quote(str(workdir))} for a page of what was kept and why"
        )


say_defaults(Run)
