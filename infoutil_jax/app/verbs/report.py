"""`infoutil report`, as `cli.VERBS` describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from infoutil_jax.errors import InputError


@dataclass(frozen=True)
class Report:
    """Options of `infoutil report`."""

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR")]
    """Of infoutil run, compare, quickstart or distill; several are shown side by side."""
    out: Path | None = None
    """By default report.html in the first folder, or beside it where that is a set."""
    source: str | None = None
    """What a set was distilled from, where its folder does not say: as for infoutil distill."""

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax.app.options import index_of
        from infoutil_jax.app.report import report
        from infoutil_jax.app.report.gather import sets_in
        from infoutil_jax.data.distilled import DistilledDataset
        from infoutil_jax.data.sources import open_source

        if not self.folders:
            raise InputError("name at least one folder, of infoutil run, say.")
        source = None
        if self.source is not None:
            shape = DistilledDataset.load(sets_in(self.folders[0])[0]).manifest["image_shape"]
            size = (shape[0], shape[1])
            source = open_source(
                self.source, image_size=size, channels=shape[2], index=index_of(self.source)
            )
        written = report(self.folders, self.out, source=source)
        print(f"report: {written} ({written.stat().st_size / 1e6:.1f} MB); open it in a browser")
