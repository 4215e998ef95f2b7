"""A distillation method is a recipe of four parts: attribute, crop, score, select.

A fifth, refine, may improve the pixels of what they chose.

Compose your own with `dataclasses.replace`:

    recipe = dataclasses.replace(infoutil(), score=mine, version="mine 1")

where `mine(predict, variables, crops, labels) -> [batch]` is any function JAX can trace.
`method.contracts` says what each part takes and gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from infoutil_jax.errors import InputError
from infoutil_jax.method.contracts import (
    Attribute,
    Choose,
    Crop,
    Embed,
    Fit,
    PerImage,
    Refine,
    Score,
    Selector,
    as_selector,
)

TileOrder = Literal["consecutive", "strided"]


@dataclass(frozen=True)
class Recipe:
    """What a method does to an image set; every field can be replaced by a part of yours.

    Attributes:
        name: how results call it.
        attribute: which parts of an image matter.
        crop: what is cut out of it.
        score: how useful a crop is.
        select: which crops are kept: a selector, or a function `(key, candidates, per_class) ->
            candidates`, best first within each class.
        tiles: crops that share a distilled image: 1, 4 or 9.
        partition: students take each tile for an image of its own, enlarged to the whole size (IDC,
            Kim et al., ICML 2022), where they are not told otherwise: the manifest asks for it.
        centred: from the logits that are stored as soft labels, each class's mean over the set is
            taken (`distillation.labels.centred`), and written into the manifest.
        fit: how a crop is brought to the teacher's input size for scoring: "resize", or "pad"
            (RDED: centred, in the mean colour).
        tile_order: which ranks share an image: "consecutive" (InfoUtil, Algorithm 1) or "strided"
            (RDED: image j holds ranks j, n + j, 2n + j, 3n + j).
        embed: what a selector wants to know of a crop beside its score, as named columns.
        scorer: which teacher attributes and scores, where there are two: the "teacher", or the
            "labeller", that is the one that labels.
        refine: improves the pixels of the set, and may improve its labels, after everything else
            (`infoutil_jax.refine`); None: the set is of real pixels.
        version: names what your own functions compute, for parts of a pool that are kept on disk
            (`score_pool`): change it when you change them. None: nothing of theirs is resumed.

    Raises:
        InputError: tiles that make no square, or another word for `fit`, `tile_order` or `scorer`.
    """

    name: str
    attribute: Attribute
    crop: Crop
    score: Score
    select: Selector | Choose
    tiles: int = 1
    partition: bool = False
    centred: bool = False
    fit: Fit = "resize"
    tile_order: TileOrder = "consecutive"
    embed: Embed | None = None
    scorer: Literal["teacher", "labeller"] = "teacher"
    refine: Refine | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if self.tiles < 1 or math.isqrt(self.tiles) ** 2 != self.tiles:
            raise InputError(f"tiles is {self.tiles}; it must be a square number: 1, 4, 9, ...")
        for name, value, known in (
            ("fit", self.fit, ("resize", "pad")),
            ("tile_order", self.tile_order, ("consecutive", "strided")),
            ("scorer", self.scorer, ("teacher", "labeller")),
        ):
            if value not in known:
                raise InputError(f'{name} is "{value}"; choose "{known[0]}" or "{known[1]}"')

    @property
    def per_image(self) -> PerImage:
        """The device half."""
        return PerImage(self.attribute, self.crop, self.score, self.embed, self.fit)

    @property
    def examined_by(self) -> tuple[PerImage, int]:
        """All of it that a pool's table depends on: crops are of a tile's size when scored."""
        return self.per_image, self.tiles

    @property
    def parted(self) -> bool:
        """Whether students are asked to take tiles for images, by the recipe or what refines."""
        return self.partition or bool(getattr(self.refine, "partition", False))

    @property
    def selector(self) -> Selector:
        """The host half."""
        return as_selector(self.select)
