"""How a command ends that somebody stops: with a sentence and a status, never a traceback (host).

It imports next to nothing, for it stands around the imports of all the rest.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

INTERRUPTED, TERMINATED = 130, 75  # of a shell; EX_TEMPFAIL, by which schedulers run it again
UNREAD = 141  # of a shell, too: who read what is printed has gone, as `head` does
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
        print(f"infoutil: terminated; {AGAIN}.", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print(f"infoutil: interrupted; {AGAIN}.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return UNREAD
    finally:
        sys.unraisablehook = hook
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def leave(status: int) -> None:
    """Ends the process.

    One that has failed or was stopped goes at once when all has been said and cleaned up, and so
    does one of several: what XLA still computes may crash while it is torn down, as JAX does where
    another process has gone first, and a crash has another exit status.
    """
    parallel = sys.modules.get("infoutil_jax.parallel")  # not there if nothing was begun
    several = parallel is not None and parallel.leave()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BrokenPipeError:
        os._exit(UNREAD)  # what else is to be printed would raise it again
    if status or several:
        os._exit(status)
    sys.exit(status)
