"""What the paper compares with: coresets of whole images, and InfoUtil with one part exchanged.

Coresets (Tables 9, 10) choose among teacher features, as DeepCore (Guo et al., 2022) does.
Ablations (Tables 6 to 8) share every line with the methods that they take apart.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from infoutil_jax.method import attribution, coresets, cropping, features, selection, utility
from infoutil_jax.method.recipes import Recipe, infoutil_paper, rded


def _coreset(name: str, choose: coresets.Choice, tiles: int) -> Recipe:
    return Recipe(
        name=name,
        attribute=partial(attribution.uniform_maps, grid=1),
        crop=cropping.whole_image_boxes,
        score=utility.cross_entropy,
        select=partial(coresets.coreset, choose=choose),
        tiles=tiles,
        embed=features.teacher_features,
    )


def herding(*, tiles: int = 1) -> Recipe:
    """Whole images whose mean feature is nearest to the class's (Welling 2009; iCaRL)."""
    return _coreset("herding", coresets.herding, tiles)


def k_means(*, tiles: int = 1) -> Recipe:
    """The whole images nearest to the class's k-means centres."""
    return _coreset("k_means", coresets.k_means, tiles)


def k_center(*, tiles: int = 1) -> Recipe:
    """Whole images that leave no other of the class far away (Sener & Savarese, ICLR 2018)."""
    return _coreset("k_center", coresets.k_center, tiles)


def _printed(tiles: int, *, num_crops: int = 5, alpha: float = 2.0) -> Recipe:
    """The printed rule, with the Shapley estimator that needs fewer coalitions."""
    return infoutil_paper(tiles=tiles, strategy="gaussian", num_crops=num_crops, alpha=alpha)


def grad_cam_crops(*, tiles: int = 1) -> Recipe:
    """The printed rule with Grad-CAM in the place of Shapley values (Table 8)."""
    attribute = partial(attribution.grad_cam, grid=4)
    return replace(_printed(tiles), name="grad_cam", attribute=attribute)


def random_crop_gradient_norm(*, tiles: int = 1) -> Recipe:
    """RDED's crops, scored and chosen as InfoUtil's (Table 6, second row)."""
    ours = _printed(tiles)
    return replace(
        ours, name="random_crop_gradient_norm", attribute=rded().attribute, crop=rded().crop
    )


def shapley_crop_loss(*, tiles: int = 1) -> Recipe:
    """InfoUtil's crops, scored and chosen as RDED's: the ablation that Table 6 leaves out."""
    select = partial(selection.top_k, keep="lowest")
    ours = _printed(tiles)
    return replace(ours, name="shapley_crop_loss", score=utility.cross_entropy, select=select)


def no_noise(*, tiles: int = 1) -> Recipe:
    """The printed rule with alpha 0 (Table 7): one crop an image, for all would be the same."""
    return replace(_printed(tiles, alpha=0.0, num_crops=1), name="no_noise")


BASELINES: dict[str, Callable[..., Recipe]] = {
    "herding": herding,
    "k_means": k_means,
    "k_center": k_center,
    "grad_cam": grad_cam_crops,
    "random_crop_gradient_norm": random_crop_gradient_norm,
    "shapley_crop_loss": shapley_crop_loss,
    "no_noise": no_noise,
}
