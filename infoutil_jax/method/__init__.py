"""The method: from images and a classifier to a choice of crops. Pure functions of arrays.

Here lives what knows both images and games: patch games and their maps, croppers, scores, features,
selectors, and the recipes that they make up. Nothing in this room reads a file or holds a device. A
model is `predict(variables, images)`; Grad-CAM and `teacher_features` ask it for `features`, too.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["attribution", "cropping", "features", "recipes", "scores", "selection"],
)
