"""The application: from raw images to a distilled set and accuracies, with defaults for everything.

The command line, the steps that it runs, the quickstart, and what they show: the picture and the
table. Everything here calls the library; the library imports nothing from here. What another
program may want to call belongs outside of this package.
"""
