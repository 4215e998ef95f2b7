"""What a student is taught, beside the classes of its images (host)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from infoutil_jax.errors import InputError
from infoutil_jax.image import mosaic
from infoutil_jax.training.classifier import checked_scale
from infoutil_jax.training.labelled import Labelled
from infoutil_jax.training.teacher import SEEN, Teacher


@dataclass(frozen=True, eq=False)
class Supervision:
    """What students are taught about a set, and how its images are normalised.

    Attributes:
        num_classes: number of classes, one output of the student each.
        teacher: labels every view, under the label policy "online".
        soft_labels: a teacher's logits on each tile, `[images, tiles, classes]`, for "stored"; of
            several sets, stacked.
        tiles: images in each image's square grid.
        mean: of each channel, 0 to 1; one number is every channel's; None: the teacher's.
        std: likewise, positive.
    """

    num_classes: int
    teacher: Teacher | None = None
    soft_labels: Float[np.ndarray, "*sets n tiles classes"] | None = None
    tiles: int = 1
    mean: Sequence[float] | float | None = None
    std: Sequence[float] | float | None = None

    def scale(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel.

        Raises:
            InputError: neither they nor a teacher were given, or they are of pixels to 255.
        """
        mean, std = self.mean, self.std
        if self.teacher is not None:
            mean = self.teacher.mean if mean is None else mean
            std = self.teacher.std if std is None else std
        if mean is None or std is None:
            raise InputError(
                "without a teacher mean and std must be given, one of each per channel"
            )
        return checked_scale("the students' normalisation", mean, std)

    def partitioned(self, train: Labelled) -> tuple[Labelled, Supervision]:
        """Each tile as an image of its own, enlarged to the whole size, with its own labels.

        Args:
            train: the students' images; or several sets of them, stacked.
        """
        *sets, _, height, width, channels = train.images.shape
        whole = jnp.asarray(train.images, jnp.float32).reshape(-1, height, width, channels)
        parts = np.asarray(jnp.round(mosaic.enlarged(whole, self.tiles))).astype(np.uint8)
        soft = self.soft_labels
        if soft is not None:
            soft = soft.reshape(*sets, -1, 1, soft.shape[-1])
        images = parts.reshape(*sets, -1, height, width, channels)
        labels = np.repeat(train.labels, self.tiles)
        return Labelled(images, labels), replace(self, soft_labels=soft, tiles=1)

    def check(self, train: Labelled, test: Labelled, policy: str) -> None:
        """Checks that sets and supervision fit together.

        Args:
            train: the students' images; or several sets of them, stacked.
            test: the images that they are tested on.
            policy: the label policy.

        Raises:
            InputError: what does not fit.
        """
        train.check(self.num_classes, "training")
        test.check(self.num_classes, "test")
        if policy == "online" and self.teacher is None:
            raise InputError("label policy 'online' needs a teacher: give one, or choose 'stored'")
        count, height, width, channels = train.images.shape[-4:]
        mean, std = self.scale()
        if test.images.shape[3] != channels or len(mean) not in (1, channels):
            raise InputError(
                f"the images have {channels} channels but the test images {test.images.shape[3]}, "
                f"mean {len(mean)} and std {len(std)}: all four must agree"
            )
        side = round(self.tiles**0.5)
        if self.tiles < 1 or side**2 != self.tiles or height % side or width % side:
            raise InputError(
                f"images of {height}×{width} pixels have no square grid of {self.tiles} equal "
                "tiles: tiles must be a square number whose root divides height and width"
            )
        if policy == "online" and self.teacher is not None:
            self._check_teacher(self.teacher, (height, width), channels)
            some = np.asarray(train.images).reshape(-1, height, width, channels)[:SEEN]
            self.teacher.warn_of_probabilities(some)
        if policy == "stored":
            self._check_soft_labels((*train.images.shape[:-4], count))

    def _check_teacher(self, teacher: Teacher, size: tuple[int, int], channels: int) -> None:
        if teacher.num_classes not in (None, self.num_classes):
            raise InputError(
                f"teacher {teacher.name!r} has {teacher.num_classes} classes but the set "
                f"{self.num_classes}"
            )
        if teacher.channels not in (1, channels):
            raise InputError(
                f"teacher {teacher.name!r} takes {teacher.channels} channels but the images have "
                f"{channels}"
            )
        if teacher.image_size is not None and teacher.image_size != size:
            raise InputError(
                f"teacher {teacher.name!r} takes {teacher.image_size[0]}×{teacher.image_size[1]} "
                f"pixels but the images have {size[0]}×{size[1]}"
            )
        classes = teacher.classes_of((*size, channels))
        if classes != self.num_classes:
            raise InputError(
                f"teacher {teacher.name!r} gives {classes} logits but the set has "
                f"{self.num_classes} classes"
            )

    def _check_soft_labels(self, sets: tuple[int, ...]) -> None:
        if self.soft_labels is None:
            raise InputError("label policy 'stored' needs soft_labels [images, tiles, classes]")
        expected = (*sets, self.tiles, self.num_classes)
        if self.soft_labels.shape != expected:
            raise InputError(
                f"soft_labels have the shape {self.soft_labels.shape}: {sets[-1]} images of "
                f"{self.tiles} tiles and {self.num_classes} classes need {expected}"
            )
        if not np.isfinite(self.soft_labels).all():
            wrong = int(np.argwhere(~np.isfinite(self.soft_labels))[0][-3])
            raise InputError(f"soft_labels of image {wrong} hold a NaN or infinite logit")
