"""Images in, distilled sets out.

Here live the sources of images (a folder, TFDS, the digits), how they are decoded and augmented,
and the distilled set on disk. Nothing in this room knows of a model, a teacher or a method.
"""
