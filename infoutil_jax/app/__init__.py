"""The application: from raw images to a distilled set and accuracies, with defaults for everything.

Here live the command line, the steps that it runs, the quickstart, and what they show: the picture
and the table. Notebooks and experiments call these steps, too. Everything here calls the library;
no room of the library imports from here.
"""
