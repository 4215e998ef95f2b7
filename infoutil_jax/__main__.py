"""`infoutil`, and `python -m infoutil_jax`: what stops it while it imports is told, too."""

from infoutil_jax.app.stopping import ending, leave


def main() -> None:
    """Entry point: does what is asked for, and ends the process."""

    def work() -> int:
        from infoutil_jax.app.cli import main as command

        return command()

    leave(ending(work))


if __name__ == "__main__":
    main()
