"""`infoutil report`, as `cli.VERBS` describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from infoutil_jax.app.flags import Group, say_defaults
from infoutil_jax.app.options import Originals
from infoutil_jax.errors import InputError


@dataclass(frozen=True)
class Report:
    """Options of `infoutil report`."""

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR")]
    """Of infoutil run, compare, quickstart or distill; several are shown side by side."""
    out: Path | None = None
    """By default report.html in the first folder, or beside it where that is a set."""
    data: Annotated[Originals, Group] = Originals()
    """For sets whose folder does not say."""

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax.app.report import report
        from infoutil_jax.app.report.gather import sets_in
        from infoutil_jax.data.distilled import DistilledDataset

        if not self.folders:
            raise InputError("name at least one folder, of infoutil run, say.")
        source = None
        if self.data.source is not None:
            first = DistilledDataset.load(sets_in(self.folders[0])[0])
            source = self.data.opened(first.manifest["image_shape"])
        written = report(self.folders, self.out, source=source)
        print(f"report: {written} ({written.stat().st_size / 1e6:.1f} MB); open it in a browser")


say_defaults(Report)
