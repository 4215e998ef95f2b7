"""What the tests of data share: real images, free to damage, and a set made of some."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoutil_jax.data.distilled import write_distilled

FIXTURES = Path(__file__).parents[1] / "fixtures"
CLASSES = ("cassette player", "church/chapel", "golf_ball")


@pytest.fixture
def folder(tmp_path):
    """Two classes of five real 32x32 images, free to damage."""
    return Path(shutil.copytree(FIXTURES / "cifar10", tmp_path / "set"))


@pytest.fixture
def arguments():
    def arguments(channels=3, tiles=4):
        """Nine real photographs, three a class, as a set of `channels` channels."""
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
        files = sorted((FIXTURES / "imagenette/train").glob("*/*.jpg"))
        images = np.stack([np.asarray(Image.open(f).resize((24, 20)).convert(mode)) for f in files])
        images = images.reshape(9, 20, 24, channels).copy()
        if channels in (2, 4):
            images[..., -1] = np.arange(24) * 10  # colours under full transparency have to survive
        rng = np.random.default_rng(0)
        return {
            "images": images,
            "labels": np.repeat(np.arange(3, dtype=np.int32), 3),
            "soft_labels": rng.normal(size=(9, tiles, 3)).astype(np.float32),
            "class_names": CLASSES,
            "records": [
                {
                    "tiles": [
                        {
                            "source": f.name,
                            "box": np.array([0, i, 20, 24]),
                            "score": np.float32(i / 3),
                        }
                    ]
                }
                for i, f in enumerate(files)
            ],
            "manifest": {"recipe": "infoutil", "seed": 0, "arguments": {"alpha": 2.0}},
        }

    return arguments


@pytest.fixture
def written(arguments, tmp_path):
    return write_distilled(tmp_path / "set", **arguments())


@pytest.fixture
def place(tmp_path):
    """Makes a set of two classes from what is given for each file: pixels, a picture or bytes."""

    def place(contents, ending="png", **options):
        for number, content in enumerate(contents):
            path = tmp_path / f"made/{'ab'[number % 2]}/{number}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif ending == "npy":
                np.save(path, content)
            else:
                picture = Image.fromarray(content) if isinstance(content, np.ndarray) else content
                picture.save(path, **options)
        return f"folder:{tmp_path / 'made'}"

    return place


@pytest.fixture
def pixels_of():
    def pixels_of(source):
        """The pixels of every image, by the number that its file has."""
        return {
            int(Path(name).stem): split.image(i)
            for split in (source.train, source.test)
            for i, name in enumerate(split.ids)
        }

    return pixels_of
