"""Dataset distillation by informativeness and utility (InfoUtil, ICLR 2026) in JAX and Flax.

The functions below are what most users need. Parts to compose with live in the namespaces beside
them (`from infoutil_jax import recipes`): `recipes`, `attribution`, `cropping`, `scores`,
`features` and `selection`; `shapley` and `gradients` stand alone.
"""

from importlib.metadata import PackageNotFoundError, version

from infoutil_jax import gradients, shapley
from infoutil_jax.app.report import overview
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.distillation import (
    DistillConfig,
    ScoredPool,
    distill,
    distill_pool,
    score_pool,
    sre2l,
)
from infoutil_jax.errors import InputError
from infoutil_jax.gradients import gradient_norms
from infoutil_jax.method import attribution, cropping, features, recipes, scores, selection
from infoutil_jax.method.attribution import grad_cam, patch_shapley
from infoutil_jax.method.patch_game import PatchGame, patch_game
from infoutil_jax.method.recipes import (
    Recipe,
    infoutil,
    infoutil_clear,
    infoutil_kernel,
    infoutil_paper,
    rded,
)
from infoutil_jax.method.shapley_maps import ShapleyConfig, ShapleyMaps
from infoutil_jax.models import as_predict, create
from infoutil_jax.models.torch_weights import load_torchvision, to_torchvision
from infoutil_jax.shapley import (
    CoalitionDesign,
    StagedDesign,
    coalition_design,
    exact_shapley,
    kernel_shap,
    shapley_values,
    staged_design,
    staged_shapley,
)
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.forgetting import load_forgetting
from infoutil_jax.training.recover import Inversion
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision
from infoutil_jax.training.teacher import Teacher, load_teacher
from infoutil_jax.training.train_teacher import train_teacher

try:
    __version__ = version("infoutil-jax")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "CoalitionDesign",
    "DistillConfig",
    "DistilledDataset",
    "InputError",
    "Inversion",
    "PatchGame",
    "Recipe",
    "ScoredPool",
    "ShapleyConfig",
    "ShapleyMaps",
    "Source",
    "StagedDesign",
    "StudentConfig",
    "Supervision",
    "Teacher",
    "TeacherConfig",
    "as_predict",
    "attribution",
    "coalition_design",
    "create",
    "cropping",
    "distill",
    "distill_pool",
    "exact_shapley",
    "features",
    "grad_cam",
    "gradient_norms",
    "gradients",
    "infoutil",
    "infoutil_clear",
    "infoutil_kernel",
    "infoutil_paper",
    "kernel_shap",
    "load_forgetting",
    "load_teacher",
    "load_torchvision",
    "open_source",
    "overview",
    "patch_game",
    "patch_shapley",
    "rded",
    "recipes",
    "score_pool",
    "scores",
    "selection",
    "shapley",
    "shapley_values",
    "sre2l",
    "staged_design",
    "staged_shapley",
    "to_torchvision",
    "train_student",
    "train_teacher",
]
