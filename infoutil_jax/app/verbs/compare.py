"""`infoutil compare`, as `cli.VERBS` describes it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from infoutil_jax.app.config import CompareConfig, RecipeConfig
from infoutil_jax.app.flags import Flat, Group, say_defaults
from infoutil_jax.app.options import DeviceCount, Logs, SourceOptions, default_workdir
from infoutil_jax.refine.recipes import RECIPES

NAMES = f"Of {', '.join(RECIPES)}; random images are always among them."


@dataclass(frozen=True)
class Compare:
    """Options of `infoutil compare`."""

    data: Annotated[SourceOptions, Group]
    recipes: Annotated[tuple[str, ...], tyro.conf.arg(help=NAMES)] = ("infoutil", "rded", "random")
    workdir: Path | None = None
    """By default runs/compare- and the source's name, as with `infoutil run`."""
    overwrite: bool = False
    """Replace sets that are there and were made by other arguments."""
    devices: DeviceCount = "all"
    """Of this machine, that share the work."""
    config: Annotated[CompareConfig, Flat] = CompareConfig()
    logs: Annotated[Logs, Group] = Logs()

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax import locks, parallel
        from infoutil_jax.app.accounts import markdown
        from infoutil_jax.app.comparison import compare

        for name in self.recipes:  # before images are read
            RecipeConfig(name).check()
        source = self.data.open()
        workdir = self.workdir or default_workdir(source, "compare-")
        with locks.locked(workdir):
            found = compare(
                source,
                workdir,
                self.recipes,
                self.config,
                devices=parallel.devices_of(self.devices),
                overwrite=self.overwrite,
            )
        print(markdown(found.rows()))
        print(
            f"one set and one student for each of {len(self.config.student.seeds)} seeds: mean ± "
            "standard deviation; leads with their 95% intervals"
        )
        print(found.advice())
        print(
            f"teacher, sets and figures: {workdir}\n"
            f"next: infoutil report {shlex.quote(str(workdir))} for a page of what was kept and why"
        )


say_defaults(Compare)
