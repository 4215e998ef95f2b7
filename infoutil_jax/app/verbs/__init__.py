"""The verbs of the command line, one module and one dataclass each.

A module is imported when its verb is given, and what only the work needs when the work begins: a
command that says its help, or that is wrong, answers at once.
"""
