"""From a source to a distilled set on disk: everything with state that the method needs.

Here live the pool, scored in parts that can be resumed; the conductor, which writes what a recipe
selects; the stream, which keeps a set up to date; and the inversion of a network (SRe2L). What is
computed per image stands in `method`; nothing here knows of the command line.
"""

from infoutil_jax.distillation.config import DistillConfig, StreamConfig
from infoutil_jax.distillation.distill import distill, distill_pool, scorer_of
from infoutil_jax.distillation.engines import Ray
from infoutil_jax.distillation.examine import Examined
from infoutil_jax.distillation.inversion import sre2l
from infoutil_jax.distillation.pool import ScoredPool, score_pool
from infoutil_jax.distillation.refining import started_from
from infoutil_jax.distillation.stream import Stream

__all__ = [
    "DistillConfig",
    "Examined",
    "Ray",
    "ScoredPool",
    "Stream",
    "StreamConfig",
    "distill",
    "distill_pool",
    "score_pool",
    "scorer_of",
    "sre2l",
    "started_from",
]
