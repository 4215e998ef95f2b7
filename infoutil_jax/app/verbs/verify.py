"""`infoutil verify`, as `cli.VERBS` describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Verify:
    """Options of `infoutil verify`."""

    distilled: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DISTILLED")]
    """Folder of `infoutil distill`."""

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax.data.distilled import DistilledDataset

        distilled = DistilledDataset.load(self.distilled)
        distilled.verify()
        print(f"{distilled}: complete, every checksum holds")
