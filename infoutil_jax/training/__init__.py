"""Training: teachers, students, and how well they do.

Configs say how (`config`), one loop trains (`fit`), and a directory holds what a teacher's training
has reached (`checkpoint`). This package imports data, models, image, gradients, parallel and
errors; never a method of distillation, nor the application.
"""
