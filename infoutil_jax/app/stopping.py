"""How a command ends that somebody stops: with a sentence and a status, never a traceback (host).

It imports next to nothing, for it stands around the imports of all the rest.
"""

import signal
import sys
from collections.abc import Callable
from typing import Any

INTERRUPTED, TERMINATED = 130, 75  # of a shell; EX_TEMPFAIL, by which schedulers run it again
AGAIN = "run the same command again to go on"


class Terminated(KeyboardInterrupt):
    """Somebody, or a scheduler, has sent SIGTERM: whatever Ctrl-C cleans up is cleaned up."""


def ending(work: Callable[[], int]) -> int:
    """Does some work, and returns its exit status or that of its being stopped."""

    def stop(number: int, frame: Any) -> None:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, which alone has signals
        before = None
    try:
        return work()
    except Terminated:
        print(f"infoutil: terminated; {AGAIN}.", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print(f"infoutil: interrupted; {AGAIN}.", file=sys.stderr)
        return INTERRUPTED
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
