"""Selectors: the host half of a recipe. NumPy.

Here lives what chooses among the crops of a pool by their scores, labels, ids and features, the
kernel machine of `MostUseful` included. Pixels, boxes and maps are not known here, nor is the
teacher.

    select = Chain(Shortlist(times=4), Coreset(facility_location))
"""

from infoutil_jax.method.contracts import (
    Candidates,
    Choosing,
    Reduce,
    Selector,
    concatenate,
    take,
)
from infoutil_jax.method.selection.compose import Chain, Shortlist, running
from infoutil_jax.method.selection.coresets import (
    Coreset,
    facility_location,
    feature,
    herding,
    k_center,
    k_means,
)
from infoutil_jax.method.selection.most_useful import MostUseful
from infoutil_jax.method.selection.ranking import ByStatistic, Keep, RandomK, TopK, best_crop
from infoutil_jax.method.selection.stratified import Stratified

__all__ = [
    "ByStatistic",
    "Candidates",
    "Chain",
    "Choosing",
    "Coreset",
    "Keep",
    "MostUseful",
    "RandomK",
    "Reduce",
    "Selector",
    "Shortlist",
    "Stratified",
    "TopK",
    "best_crop",
    "concatenate",
    "facility_location",
    "feature",
    "herding",
    "k_center",
    "k_means",
    "running",
    "take",
]
