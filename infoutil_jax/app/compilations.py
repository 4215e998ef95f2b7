"""How many programs JAX has compiled, and how long that took (host)."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import monitoring

_COMPILED = "/jax/core/compile/backend_compile_duration"  # a program that the cache had, too
_FOUND = "/jax/compilation_cache/cache_hits"


class Compilations(NamedTuple):
    """Programs that were needed.

    Attributes:
        compiled: how many were compiled.
        from_cache: how many the compilation cache had.
        seconds: what both took.
    """

    compiled: int
    from_cache: int
    seconds: float

    def since(self, earlier: Compilations) -> Compilations:
        """What came between two counts."""
        return Compilations(
            self.compiled - earlier.compiled,
            self.from_cache - earlier.from_cache,
            self.seconds - earlier.seconds,
        )

    def __str__(self) -> str:
        return f"compilation took {self.seconds:.0f} s"


_programs, _found, _seconds = 0, 0, 0.0


def _count_program(event: str, duration_secs: float, **_: Any) -> None:
    global _programs, _seconds
    if event == _COMPILED:
        _programs, _seconds = _programs + 1, _seconds + duration_secs


def _count_found(event: str, **_: Any) -> None:
    global _found
    _found += event == _FOUND


monitoring.register_event_duration_secs_listener(_count_program)
monitoring.register_event_listener(_count_found)


def so_far() -> Compilations:
    """Of this process, since this module was imported."""
    return Compilations(_programs - _found, _found, _seconds)
