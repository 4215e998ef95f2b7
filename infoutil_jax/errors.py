"""The one exception that is the user's to fix."""


class InputError(ValueError):
    """Bad input, told in one sentence: what is wrong, where, and what would be right.

    The command line prints the sentence alone and exits with status 2. Everything else that is
    raised is a bug of ours and keeps its traceback.
    """
