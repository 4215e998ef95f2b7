"""How a command ends that somebody stops: with a sentence and a status, never a traceback (host).

It imports next to nothing, for it stands around the imports of all the rest.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

INTERRUPTED, TERMINATED = 130, 75  # of a shell; EX_TEMPFAIL, by which schedulers run it again
REFUSED = 2  # something of yours or of the machine's to fix
UNHEARD = 141  # of a shell: whoever reads what is printed has gone
AGAIN_AFTER = 0.05  # seconds
AGAIN = "run the same command again to go on"


class Terminated(KeyboardInterrupt):
    """Somebody, or a scheduler, has sent SIGTERM: whatever Ctrl-C cleans up is cleaned up."""


def ending(work: Callable[[], int]) -> int:
    """Does some work, and returns its exit status or that of its being stopped."""

    def stop(number: int, frame: Any) -> None:
        raise Terminated

    def unraisable(about: Any) -> None:
        """What is raised in the midst of garbage collection is ignored, so it is raised again."""
        if not issubclass(about.exc_type, KeyboardInterrupt):
            hook(about)
            return
        number = signal.SIGTERM if issubclass(about.exc_type, Terminated) else signal.SIGINT
        threading.Timer(AGAIN_AFTER, os.kill, (os.getpid(), number)).start()

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, which alone has signals
        before = None
    hook = sys.unraisablehook
    sys.unraisablehook = unraisable
    try:
        return work()
    except Terminated:
        tell(f"terminated; {AGAIN}.")
        return TERMINATED
    except KeyboardInterrupt:
        tell(f"interrupted; {AGAIN}.")
        return INTERRUPTED
    finally:
        sys.unraisablehook = hook
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def tell(sentence: str) -> None:
    """Says why a command ends, where that can be said at all."""
    with contextlib.suppress(OSError):
        print(f"infoutil: {sentence}", file=sys.stderr, flush=True)


def leave(status: int) -> None:
    """Ends the process.

    One that has failed or was stopped goes at once when all has been said and cleaned up, and so
    does one of several: what XLA still computes may crash while it is torn down, as JAX does where
    another process has gone first, and a crash has another exit status.
    """
    parallel = sys.modules.get("infoutil_jax.parallel")  # not there if nothing was begun
    several = parallel is not None and parallel.leave()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os._exit(status or UNHEARD)  # what else is to be printed would raise it again
        except OSError:  # where the printed goes to a file, on a full disk
            os._exit(status or REFUSED)
    if status or several:
        os._exit(status)
    sys.exit(status)
