"""Engines, which spread the parts of a pool over machines (host).

An engine is a function. It is given what scores a part, and the parts, and yields the number and
the rows of each part as they come, in any order. What scores can be pickled by cloudpickle, opens
the source where it runs, and compiles once in a process. So a part's rows are the same wherever it
is scored, and nothing but its images' numbers is sent there, and its rows back: machines need no
common disk, but for the images of a folder.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int

from infoutil_jax import ranges
from infoutil_jax.distillation.examine import Examined
from infoutil_jax.errors import InputError

Part = Int[np.ndarray, "_"]
"""Numbers of training images."""
Score = Callable[[Part], Examined]
Engine = Callable[[Score, Sequence[Part]], Iterator[tuple[int, Examined]]]
PATIENCE = 10.0  # seconds that a cluster has to answer


@dataclass(frozen=True)
class Ray:
    """Scores parts as tasks of a Ray cluster (https://docs.ray.io), which repeats what is lost.

    Tasks, and not Ray Data: a pool is scored in several rounds, and Ray keeps a task's process for
    the next task, with the teacher and the programs that it has, where Ray Data starts its actors
    anew for each data set.

    Attributes:
        address: "auto" is the cluster that this machine belongs to, "ray://HOST:10001" another
            one; None starts one on this machine, which ends with this process.
        cpus: that a task holds. As many tasks run at once as the cluster has room for.
        gpus: that a task holds; None is one where the cluster has any, else none.
        retries: how often a part is scored again whose process or machine was lost.

    Raises:
        InputError: a number out of its range; when called, the package ray is not there, nobody
            answers at `address`, a part was lost more often, or what scoring itself raises.
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float | None = None
    retries: int = 3

    def __post_init__(self) -> None:
        ranges.check(self)

    def __call__(self, score: Score, parts: Sequence[Part]) -> Iterator[tuple[int, Examined]]:
        """Yields the number and the rows of each part, as they come."""
        ray = self._joined()
        gpus = self.gpus
        if gpus is None:
            gpus = float(ray.cluster_resources().get("GPU", 0) >= 1)
        task = ray.remote(_scored).options(
            num_cpus=self.cpus, num_gpus=gpus, max_retries=self.retries
        )
        shared = ray.put(score)
        flying = {task.remote([shared], part): number for number, part in enumerate(parts)}
        try:
            while flying:
                (ready, *_), _ = ray.wait(list(flying))
                number = flying.pop(ready)
                yield number, self._rows(ray, ready, parts[number])
        finally:
            for left in flying:
                ray.cancel(left, force=True)

    def _joined(self) -> ModuleType:
        """The package, its cluster joined."""
        try:
            import ray
        except ImportError:
            raise InputError("Ray needs a package: pip install 'infoutil-jax[ray]'") from None
        if not ray.is_initialized():
            self._join(ray)
        module: ModuleType = ray
        return module

    def _join(self, ray: ModuleType) -> None:
        """Has Ray's package join the cluster; it would take SIGTERM from whoever listens."""
        here = threading.current_thread() is threading.main_thread()
        heard = signal.getsignal(signal.SIGTERM) if here else None
        try:
            _knock(self.address)
            with warnings.catch_warnings():
                # Ray's processes are new programs: JAX's threads are not in their way.
                warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
                ray.init(self.address or "local", logging_level=logging.WARNING)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise InputError(f"no Ray cluster at {self.address!r}: {reason}") from None
        finally:
            if heard is not None:
                signal.signal(signal.SIGTERM, heard)

    def _rows(self, ray: Any, ready: Any, part: Part) -> Examined:
        """What a task has made; its errors as they would be here."""
        try:
            rows: Examined = ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from None
            raise
        except ray.exceptions.RayError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"training images {part.min()} to {part.max()} were lost {self.retries + 1} times "
                f"while they were scored: {reason}"
            ) from None
        return rows


def _knock(address: str | None) -> None:
    """Knocks at host:port, where an address names them: Ray itself would try for minutes.

    Raises:
        OSError: nobody answers.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), PATIENCE).close()


_loaded: dict[str, Score] = {}


def _scored(shared: Sequence[Any], part: Part) -> Examined:
    """Scores a part, in a process that keeps what scores it.

    Args:
        shared: a reference to it: in a sequence, else Ray would make it anew for each task.
        part: numbers of images.
    """
    import ray

    name = shared[0].hex()
    if name not in _loaded:
        _loaded.clear()
        _loaded[name] = ray.get(shared[0])
    return _loaded[name](part)
