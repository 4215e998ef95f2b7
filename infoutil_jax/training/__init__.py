"""Training: teachers, students, and how well they do."""
