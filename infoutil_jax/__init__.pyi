"""What `__init__.py` has, each name imported when it is first asked for."""

from . import gradients as gradients
from . import progress as progress
from . import refine as refine
from . import shapley as shapley
from .app.accounts import accuracy_table as accuracy_table
from .app.comparison import Comparison as Comparison
from .app.comparison import compare as compare
from .app.config import CompareConfig as CompareConfig
from .app.config import RecipeConfig as RecipeConfig
from .app.config import RunConfig as RunConfig
from .app.figures import overview as overview
from .app.figures import plot_attributions as plot_attributions
from .app.figures import plot_distilled as plot_distilled
from .app.figures import plot_tradeoff as plot_tradeoff
from .app.governance import audit as audit
from .app.governance import explain as explain
from .app.governance import forget as forget
from .app.pipeline import choose_teacher as choose_teacher
from .app.pipeline import run as run
from .app.pipeline import train_teachers as train_teachers
from .app.quickstart import quickstart as quickstart
from .app.report import report as report
from .app.students import train_students as train_students
from .data.distilled import DistilledDataset as DistilledDataset
from .data.sources import (
    Source as Source,
)
from .data.sources import (
    open_source as open_source,
)
from .distillation import (
    DistillConfig as DistillConfig,
)
from .distillation import (
    ScoredPool as ScoredPool,
)
from .distillation import (
    Stream as Stream,
)
from .distillation import (
    StreamConfig as StreamConfig,
)
from .distillation import (
    distill as distill,
)
from .distillation import (
    distill_pool as distill_pool,
)
from .distillation import (
    score_pool as score_pool,
)
from .distillation import (
    sre2l as sre2l,
)
from .distillation import (
    started_from as started_from,
)
from .distillation import (
    stream as stream,
)
from .errors import InputError as InputError
from .gradients import gradient_norms as gradient_norms
from .method import (
    attribution as attribution,
)
from .method import (
    cropping as cropping,
)
from .method import (
    features as features,
)
from .method import (
    recipes as recipes,
)
from .method import (
    scores as scores,
)
from .method import (
    selection as selection,
)
from .method.attribution import (
    grad_cam as grad_cam,
)
from .method.attribution import (
    patch_shapley as patch_shapley,
)
from .method.patch_game import (
    PatchGame as PatchGame,
)
from .method.patch_game import (
    patch_game as patch_game,
)
from .method.recipes import (
    Recipe as Recipe,
)
from .method.recipes import (
    infoutil as infoutil,
)
from .method.recipes import (
    infoutil_clear as infoutil_clear,
)
from .method.recipes import (
    infoutil_kernel as infoutil_kernel,
)
from .method.recipes import (
    infoutil_paper as infoutil_paper,
)
from .method.recipes import (
    rded as rded,
)
from .method.shapley_maps import (
    ShapleyConfig as ShapleyConfig,
)
from .method.shapley_maps import (
    ShapleyMaps as ShapleyMaps,
)
from .models import (
    as_predict as as_predict,
)
from .models import (
    create as create,
)
from .models.torch_weights import (
    load_torchvision as load_torchvision,
)
from .models.torch_weights import (
    to_torchvision as to_torchvision,
)
from .refine import (
    Refiner as Refiner,
)
from .refine import (
    infoutil_refined as infoutil_refined,
)
from .shapley import (
    CoalitionDesign as CoalitionDesign,
)
from .shapley import (
    StagedDesign as StagedDesign,
)
from .shapley import (
    coalition_design as coalition_design,
)
from .shapley import (
    exact_shapley as exact_shapley,
)
from .shapley import (
    kernel_shap as kernel_shap,
)
from .shapley import (
    shapley_values as shapley_values,
)
from .shapley import (
    staged_design as staged_design,
)
from .shapley import (
    staged_shapley as staged_shapley,
)
from .training.config import (
    StudentConfig as StudentConfig,
)
from .training.config import (
    TeacherConfig as TeacherConfig,
)
from .training.forgetting import load_forgetting as load_forgetting
from .training.recover import Inversion as Inversion
from .training.renewal import Renewal as Renewal
from .training.student import train_student as train_student
from .training.supervision import Supervision as Supervision
from .training.teacher import (
    Teacher as Teacher,
)
from .training.teacher import (
    load_teacher as load_teacher,
)
from .training.train_teacher import train_teacher as train_teacher

__version__: str
