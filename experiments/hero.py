"""The README's picture: six photographs whose licences allow it, through the whole method.

    pip install scikit-image    # which ships four of them; the others come with scikit-learn
    python -m experiments.hero

Each photograph is a class, and its images are windows of it at random places. A teacher learns to
tell the photographs apart, the printed rule distils the windows, and the picture shows for each
class where its best crop comes from. Writes `experiments/results/hero/`.

Photographs: temple by danielbuechele and flower by vultilion (CC BY 2.0, in scikit-learn);
astronaut and rocket by NASA and SpaceX (public domain, CC0), coffee by Rachel Michetti and cat by
Stefan van der Walt (CC0, in scikit-image).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tyro
from PIL import Image
from sklearn.datasets import load_sample_image

from infoutil_jax import DistillConfig, TeacherConfig, distill, open_source, overview, provenance
from infoutil_jax.app.pipeline import train_teachers
from infoutil_jax.method.recipes import infoutil_paper

RESULT = Path(__file__).parent / "results" / "hero"


@dataclass(frozen=True)
class Hero:
    """How the picture is made."""

    windows: int = 80
    """Of each photograph; a fifth is tested on."""
    side: int = 64
    """Of a window, in pixels, after it is resized."""
    share: tuple[float, float] = (0.35, 0.7)
    """Side of a window in the photograph, as a share of its short side."""
    width: int = 32
    """Of the teacher."""
    epochs: int = 20
    """Of the teacher."""
    seed: int = 0
    """Of windows, teacher and crops."""
    result: Path = RESULT
    """Folder of the picture and of what made it."""

    def run(self) -> None:
        """Make it."""
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / "photographs"
            self._cut(folder)
            source = open_source(f"folder:{folder}", image_size=self.side)
            config = TeacherConfig(width=self.width, epochs=self.epochs, early_epochs=0)
            teacher = train_teachers(source, Path(scratch) / "teacher", config)["converged"]
            distilled = distill(
                source,
                teacher,
                infoutil_paper(),
                images_per_class=5,
                workdir=Path(scratch) / "set",
                seed=self.seed,
                config=DistillConfig(progress=False),
            )
            self.result.mkdir(parents=True, exist_ok=True)
            overview(distilled, source, self.result / "hero.png")
        record = {
            "arguments": {k: v for k, v in asdict(self).items() if k != "result"},
            "teacher_top1": teacher.accuracy,
            "recipe": distilled.manifest["recipe"],
            "versions": {**provenance.versions(), "scikit-image": version("scikit-image")},
            "hardware": provenance.hardware(),
        }
        (self.result / "hero.json").write_text(json.dumps(record, indent=1) + "\n")

    def _cut(self, folder: Path) -> None:
        """Windows of each photograph, as files."""
        random = np.random.default_rng(self.seed)
        for name, photograph in photographs().items():
            picture = Image.fromarray(photograph())
            (folder / name).mkdir(parents=True)
            for number in range(self.windows):
                extent = round(random.uniform(*self.share) * min(picture.size))
                left, top = (int(random.integers(0, most - extent + 1)) for most in picture.size)
                window = picture.crop((left, top, left + extent, top + extent))
                window = window.resize((self.side, self.side), Image.Resampling.LANCZOS)
                window.save(folder / name / f"{number:03}.png")


def photographs() -> dict[str, Callable[[], np.ndarray]]:
    """Class -> its photograph."""
    from skimage import data

    return {
        "astronaut": data.astronaut,
        "cat": data.cat,
        "coffee": data.coffee,
        "flower": lambda: load_sample_image("flower.jpg"),
        "rocket": data.rocket,
        "temple": lambda: load_sample_image("china.jpg"),
    }


if __name__ == "__main__":
    tyro.cli(Hero, description=__doc__).run()
