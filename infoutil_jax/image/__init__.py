"""Pixels without meaning: grids, boxes, resampling, tiles.

Here lives what is true of any image, whoever looks at it. Nothing in this room knows of games,
gradients, networks or data sets.
"""
