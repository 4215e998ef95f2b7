"""`infoutil`, and `python -m infoutil_jax`: what stops it while it imports is told, too."""

import sys

from infoutil_jax.app.stopping import ending


def main() -> int:
    """Entry point; returns the exit status."""

    def work() -> int:
        from infoutil_jax.app.cli import main as command

        return command()

    return ending(work)


if __name__ == "__main__":
    sys.exit(main())
