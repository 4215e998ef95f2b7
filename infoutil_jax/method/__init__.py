"""The method: from images and a classifier to a choice of crops. Pure functions of arrays.

Here lives what knows both images and games: patch games and their maps, croppers, scores, features,
selectors, and the recipes that they make up. Nothing in this room reads a file, holds a device or
knows how a model is written: a model is `predict(variables, images)`.
"""
