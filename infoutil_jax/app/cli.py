"""The command line: `infoutil VERB ...`.

Exit codes: 0 done, 1 an audit that has found differences, 2 something of yours or of the machine's
to fix (told in one sentence), 75 terminated by SIGTERM, 130 interrupted; after these two the same
command goes on. 141: whoever reads what is printed has gone.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import nullcontext, redirect_stderr
from dataclasses import make_dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union

import tyro

from infoutil_jax import files
from infoutil_jax.app.flags import with_flags
from infoutil_jax.app.stopping import UNHEARD, ending, leave, tell
from infoutil_jax.errors import InputError

COMPILED = Path.home() / ".cache" / "infoutil_jax"  # what the next command need not compile again
ROOM = 2**24
"""Bytes that compiled programs may need."""


class Verb(NamedTuple):
    """A verb before its module, which is called as it is, has been imported.

    Attributes:
        options: name of the dataclass.
        does: a sentence.
    """

    options: str
    does: str


VERBS = {
    "quickstart": Verb(
        "Quickstart",
        "The whole method on scikit-learn's digits, in two to three minutes on two cores.",
    ),
    "run": Verb("Run", "Teacher, distilled set, student and a summary, from a source alone."),
    "compare": Verb(
        "Compare",
        "Several recipes on a source, under one teacher: a table with intervals, and what to take.",
    ),
    "teacher": Verb(
        "TrainTeacher",
        "Train a teacher and keep its early and its converged checkpoint; resumes after a stop.",
    ),
    "distill": Verb("Distill", "Distil a source with a trained teacher."),
    "stream": Verb(
        "StreamImages",
        "Keep a distilled set up to date: take in a source's images, each once, and go on later "
        "with others.",
    ),
    "student": Verb(
        "TrainStudent",
        "Train students from scratch on a distilled set and test them on real images.",
    ),
    "report": Verb(
        "Report", "One HTML page about a run, a comparison or a set: what was kept, and why."
    ),
    "verify": Verb("Verify", "Check a distilled set on disk against its manifest, file by file."),
    "explain": Verb("Explain", "Why an image is in a distilled set, from the set's own records."),
    "audit": Verb(
        "AuditSet",
        "Make a set again from its source and teachers, and say what differs, image by image.",
    ),
    "forget": Verb(
        "Forget", "Take source images out of a set, as if they had never been in the pool."
    ),
}


def commands(arguments: list[str]) -> Any:
    """What tyro chooses from: the verb that `arguments` begins with, and stand-ins for the others.

    A completion script of tyro's is of all verbs.
    """
    asked = list(VERBS) if arguments[:1] and arguments[0].startswith("--tyro") else arguments[:1]
    return Union[tuple(_command(name, verb, name in asked) for name, verb in VERBS.items())]  # noqa: UP007


def _command(name: str, verb: Verb, asked: bool) -> Any:
    options = options_of(name) if asked else make_dataclass(verb.options, [])
    return Annotated[options, tyro.conf.subcommand(name, description=verb.does)]


def options_of(name: str) -> Any:
    """The dataclass of a verb's options."""
    return getattr(import_module(f"infoutil_jax.app.verbs.{name}"), VERBS[name].options)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `infoutil`; returns the exit code."""
    return ending(partial(_main, sys.argv[1:] if arguments is None else arguments))


def parsed(arguments: list[str]) -> Any:
    """The command that is asked for.

    Raises:
        InputError: an option is out of its range; tyro would tell that in a box of its own.
        SystemExit: help was asked for, or words are no command, and tyro has said so.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                commands(arguments),
                args=arguments,
                prog="infoutil",
                description="Distil an image set into a few images a class (InfoUtil, ICLR 2026).",
            )
    except SystemExit as stopped:
        cause: BaseException | None = stopped
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause from None
            cause = cause.__context__
        sys.stderr.write(said.getvalue())
        raise


def _main(arguments: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):  # names of files and classes may be no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        _keep_programs()
        command = parsed(arguments)
        logs = getattr(command, "logs", None)
        with logs.watching() if logs else nullcontext():
            status: int | None = command()
    except InputError as error:
        sentence = with_flags(str(error), options_of(arguments[0]), arguments)
        tell(sentence)
        return 2
    except BrokenPipeError:
        return UNHEARD
    except OSError as error:
        if error.errno not in files.OF_THE_MACHINE:
            raise
        tell(files.told(error))
        return 2
    return status or 0


def _keep_programs() -> None:
    """Has JAX keep what it compiles, where the disk takes it; says so where it does not.

    JAX would warn of each program, and leave its file cut short. It reads this when it is imported.
    """
    folder = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
    if "://" in folder:  # on no disk of this machine
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        files.find_room(Path(folder), ROOM)
    except OSError as error:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        print(f"note: compiled programs are not kept: {folder}: {error.strerror}", file=sys.stderr)


if __name__ == "__main__":
    leave(main())
