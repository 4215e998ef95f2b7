"""Dataset distillation by informativeness and utility (InfoUtil, ICLR 2026) in JAX and Flax."""

from infoutil_jax.app.report import overview
from infoutil_jax.data.distilled import DistilledDataset
from infoutil_jax.data.sources import Source, open_source
from infoutil_jax.distill import distill
from infoutil_jax.errors import InputError
from infoutil_jax.inversion import sre2l
from infoutil_jax.method.attribution import grad_cam, patch_shapley
from infoutil_jax.method.patch_games import patch_values
from infoutil_jax.method.recipes import (
    Recipe,
    forgetting,
    infoutil,
    infoutil_clear,
    infoutil_kernel,
    infoutil_paper,
    random,
    rded,
)
from infoutil_jax.method.shapley import (
    CoalitionDesign,
    coalition_design,
    exact_shapley,
    kernel_shap,
    shapley_values,
)
from infoutil_jax.method.staged import StagedDesign, staged_design, staged_shapley
from infoutil_jax.method.utility import gradient_norms
from infoutil_jax.models import as_predict, create
from infoutil_jax.models.torch_weights import load_torchvision, to_torchvision
from infoutil_jax.scoring import score_pool
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.forgetting import load_forgetting
from infoutil_jax.training.recover import Inversion
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision
from infoutil_jax.training.teacher import Teacher, load_teacher
from infoutil_jax.training.train_teacher import train_teacher

__all__ = [
    "CoalitionDesign",
    "DistilledDataset",
    "InputError",
    "Inversion",
    "Recipe",
    "Source",
    "StagedDesign",
    "StudentConfig",
    "Supervision",
    "Teacher",
    "TeacherConfig",
    "as_predict",
    "coalition_design",
    "create",
    "distill",
    "exact_shapley",
    "forgetting",
    "grad_cam",
    "gradient_norms",
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
    "patch_shapley",
    "patch_values",
    "random",
    "rded",
    "score_pool",
    "shapley_values",
    "sre2l",
    "staged_design",
    "staged_shapley",
    "to_torchvision",
    "train_student",
    "train_teacher",
]
