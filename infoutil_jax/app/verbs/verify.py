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
    digest: str | None = None
    """Of the set that it has to be, as this command prints it: another one is refused."""

    def __call__(self) -> None:
        """Runs it."""
        from infoutil_jax.data.distilled import DistilledDataset

        distilled = DistilledDataset.load(self.distilled, digest=self.digest)
        distilled.verify()
        print(f"{distilled}: complete, every checksum holds\ndigest: {distilled.digest}")
