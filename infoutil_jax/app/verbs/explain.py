"""`infoutil explain`, as `cli.VERBS` describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from infoutil_jax.app.flags import Group, say_defaults
from infoutil_jax.app.options import Originals
from infoutil_jax.errors import InputError


@dataclass(frozen=True)
class Explain:
    """Options of `infoutil explain`."""

    distilled: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SET")]
    """Folder of `infoutil distill`."""
    image: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="IMAGE")]
    """Number from 0, or file name."""
    data: Annotated[Originals, Group] = Originals()
    """To say how many images there were to choose from, and for --picture."""
    picture: Path | None = None
    """Draw the source images with map and box to this file, as PNG, PDF or SVG."""
    json: bool = False
    """Print one JSON object, for programs."""

    def __call__(self) -> None:
        """Runs it."""
        import json

        from infoutil_jax.app.governance import explain
        from infoutil_jax.app.governance.explain import in_words, picture
        from infoutil_jax.data.distilled import DistilledDataset

        if self.picture is not None and self.data.source is None:
            raise InputError("--picture needs --source, where the original images are.")
        distilled = DistilledDataset.load(self.distilled)
        source = self.data.opened(distilled.manifest["image_shape"])
        told = explain(distilled, self.image, source=source)
        if self.picture is not None and source is not None:
            picture(distilled, told["number"], source, self.picture)
        print(json.dumps(told, indent=1) if self.json else in_words(told))
        if self.picture is not None and not self.json:
            print(f"picture: {self.picture}")


say_defaults(Explain)
