"""`infoutil run`, as `cli.VERBS` describes it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from infoutil_jax.app.config import RunConfig
from infoutil_jax.app.flags import Flat, Group, say_defaults
from infoutil_jax.app.options import DeviceCount, SourceOptions
from infoutil_jax.data.sources import Source


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

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax import parallel
        from infoutil_jax.app.compilations import Compilations
        from infoutil_jax.app.pipeline import run
        from infoutil_jax.app.report import accuracy_table

        source = self.data.open()
        workdir = self.workdir or default_workdir(source)
        devices = parallel.devices_of(self.devices)
        summary = run(source, workdir, self.config, devices=devices, overwrite=self.overwrite)
        budget = summary["images_per_class"]
        rows = {f"student, {self.config.recipe.recipe}": {budget: summary["student"]["top1"]}}
        print(accuracy_table(rows))
        print(f"distilled set, picture and summary: {workdir}")
        print(Compilations(**summary["programs"]))


def default_workdir(source: Source) -> Path:
    """A folder below runs/, another one for each source: folders of one name lie in two places."""
    kind, _, where = source.spec.partition(":")
    if kind != "folder":
        return Path("runs") / source.name
    path = os.fsencode(Path(where).expanduser().resolve())
    return Path("runs") / f"{source.name}-{hashlib.sha256(path).hexdigest()[:6]}"


say_defaults(Run)
