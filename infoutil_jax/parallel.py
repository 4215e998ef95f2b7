"""Devices and processes. One process drives the devices of its machine; JAX's runtime joins them.

Processes share work through the disk, not through messages: what is done is a file
(`distillation.parts`). So a run goes on with any number of processes, and ends even if some are
lost.
"""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import numpy as np

# The messages of JAX's runtime itself: what is public waits by collectives, which fail for all
# when one process is late by half a minute, or lost.
from jax._src.distributed import global_state
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infoutil_jax import locks
from infoutil_jax.errors import InputError

Devices = tuple[jax.Device, ...]
Item = TypeVar("Item")
Result = TypeVar("Result")
_AXIS = "data"
PATIENCE = 30.0  # seconds that the first process, when it is done, waits for the others
_SLICE = 500  # milliseconds of waiting at most, for meanwhile Python hears no signal
_LEFT, _STOPPED = "infoutil_jax/left", "infoutil_jax/stopped"
_numbers = itertools.count()
_joining = threading.Event()


def start(
    coordinator: str, processes: int | None = None, process: int | None = None
) -> tuple[int, int]:
    """Joins this process to the others of the run; call it before anything else of JAX.

    Args:
        coordinator: "host:port" of the first process, or "auto" where SLURM, Open MPI or a TPU's
            environment tells it, the number of processes and which this is.
        processes: how many there are.
        process: which this is, from 0.

    Returns:
        Which process this is, and of how many.

    Raises:
        InputError: no such environment, or numbers that do not fit.
    """
    if coordinator == "auto":
        arguments: dict[str, Any] = {}
    elif processes is None or process is None or not 0 <= process < processes:
        raise InputError(
            f"process {process} of {processes} is none: give --processes and --process, from 0, "
            f"with --coordinator {coordinator}."
        )
    else:
        arguments = {
            "coordinator_address": coordinator,
            "num_processes": processes,
            "process_id": process,
        }
    try:
        jax.config.update("jax_enable_recoverability", True)  # who is lost takes no other along
        # JAX would take SIGTERM for a wish that it only notes.
        jax.config.update("jax_enable_preemption_service", False)
        _joining.set()
        _hearing_signals(partial(jax.distributed.initialize, **arguments))
    except (ValueError, RuntimeError) as error:
        _joining.clear()
        hint = ""
        if coordinator == "auto":
            hint = " (neither SLURM nor Open MPI nor a TPU pod tells more: give host:port)"
        raise InputError(f"cannot join the processes at {coordinator!r}: {error}{hint}") from error
    _joining.clear()
    atexit.register(leave)
    return jax.process_index(), jax.process_count()


def _hearing_signals(work: Callable[[], None]) -> None:
    """Does some work in a thread: where it waits outside Python, no signal would be heard."""
    failed = list[BaseException]()

    def working() -> None:
        try:
            work()
        except BaseException as error:  # the caller's to raise
            failed.append(error)

    worker = threading.Thread(target=working, name="join", daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(_SLICE / 1000)
    if failed:
        raise failed[0]


@contextmanager
def together() -> Iterator[None]:
    """Has all processes stop where the first does, whatever the others wait for or compute.

    In the main thread of each. What stops the others is the SIGTERM that each sends itself.

    Raises:
        InputError: in the others, if the first ends with an error of its own.
    """
    if jax.process_count() == 1:
        yield
        return
    if jax.process_index() == 0:
        try:
            yield
        except BaseException as error:
            by_a_signal = isinstance(error, KeyboardInterrupt)
            reason = "" if by_a_signal else f"{type(error).__name__}: {error}"
            _client().key_value_set(_STOPPED, reason, allow_overwrite=True)
            raise
        return
    ended, heard = threading.Event(), list[str]()

    def listen() -> None:
        while not ended.wait(_SLICE / 1000):
            reason = _said(_STOPPED)
            if reason is not None:
                heard.append(reason)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    listener = threading.Thread(target=listen, name="listen", daemon=True)
    listener.start()
    try:
        yield
    except KeyboardInterrupt:
        if heard and heard[0]:
            raise InputError(f"the first process stopped with {heard[0]}") from None
        raise
    finally:
        ended.set()
        listener.join()


def devices_of(wanted: int | Literal["all"]) -> Devices:
    """Chooses devices of this machine.

    Raises:
        InputError: fewer than one, or more than there are.
    """
    there = jax.local_devices()
    if wanted == "all":
        return tuple(there)
    if not 1 <= wanted <= len(there):
        raise InputError(
            f"{wanted} devices are asked for; this machine has {len(there)} ({there[0].platform})."
        )
    return tuple(there[:wanted])


def replicated(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Copies the arrays of `tree` to each of `devices`."""
    return jax.device_put(tree, NamedSharding(_mesh(devices), PartitionSpec()))


def by_device(function: Callable[..., Any], devices: Sequence[jax.Device], shared: int) -> Any:
    """Runs `function` on every device: each has its rows of all but the first `shared` arguments.

    Each device runs the program that one alone would run, so that no number depends on how many
    there are.
    """
    if len(devices) == 1:
        return function
    everywhere, rows = PartitionSpec(), PartitionSpec(_AXIS)

    def mapped(*arguments: Any) -> Any:
        specs = tuple(everywhere if i < shared else rows for i in range(len(arguments)))
        return jax.shard_map(
            function, mesh=_mesh(devices), in_specs=specs, out_specs=rows, check_vma=False
        )(*arguments)

    return mapped


def dividing(devices: Devices | None, rows: int) -> Devices:
    """Takes as many of `devices`, by default the first alone, as can share `rows` evenly."""
    devices = devices or devices_of(1)
    count = max(n for n in range(1, min(len(devices), rows) + 1) if rows % n == 0)
    return devices[:count]


def programs_at_once() -> int:
    """How many programs are best run side by side: a small one keeps one core of a CPU busy."""
    if jax.default_backend() != "cpu":
        return 1
    ours = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(ours(0)) if ours else os.cpu_count() or 1


def by_core(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Maps `work` over items in `programs_at_once` threads; where one fails, the rest is left."""
    threads = min(programs_at_once(), len(items))
    if threads < 2:  # in the caller's own, with its JAX contexts
        return list(map(work, items))
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def spread(tree: Any, devices: Devices) -> Any:
    """Shares the rows of the arrays in `tree` between devices, under `jit`."""
    if len(devices) == 1:
        return tree
    return jax.lax.with_sharding_constraint(
        tree, NamedSharding(_mesh(devices), PartitionSpec(_AXIS))
    )


def first_alone(work: Callable[[], None]) -> bool:
    """Lets the first process do `work` while the others wait, however long it takes.

    Returns:
        True in the first process, if by then all the others have come here; else False.

    Raises:
        InputError: in the others, if the first fails; or nobody has joined the processes.
    """
    if jax.process_count() == 1:
        work()
        return True
    client, number = _client(), next(_numbers)
    done, here = f"infoutil_jax/done/{number}", f"infoutil_jax/here/{number}"
    if jax.process_index() == 0:
        try:
            work()
        except Exception as error:
            client.key_value_set(done, f"{type(error).__name__}: {error}")
            raise
        client.key_value_set(done, "")
        return _heard_of_all(here)
    client.key_value_set(f"{here}/{jax.process_index()}", "")
    if failure := _awaited(done):
        raise InputError(f"the first process stopped with {failure}")
    return False


@contextmanager
def alone_in(place: Path, prepare: Callable[[], None]) -> Iterator[None]:
    """Keeps other runs out of a folder; of several processes the first has the lock, and prepares.

    Raises:
        InputError: another run is there, or it cannot be prepared.
    """
    with ExitStack() as stack:
        refusal = ""
        if jax.process_index() == 0:
            try:
                stack.enter_context(locks.locked(place))
                prepare()
            except InputError as error:
                refusal = str(error)
        if refusal := agreed(refusal):
            raise InputError(refusal)
        yield


def agreed(value: str) -> str:
    """Gives the first process's `value` to all processes; each must call this equally often.

    Raises:
        InputError: nobody has joined the processes.
    """
    if jax.process_count() == 1:
        return value
    client, name = _client(), f"infoutil_jax/agreed/{next(_numbers)}"
    if jax.process_index() == 0:
        client.key_value_set(name, value)
        return value
    return _awaited(name)


def _client() -> Any:
    if global_state.client is None:
        raise InputError(f"{jax.process_count()} processes are not joined: call parallel.start")
    return global_state.client


def _awaited(name: str) -> str:
    """What is said under a name, however long that takes; signals are heard meanwhile."""
    while True:
        found = _said(name, _SLICE)
        if found is not None:
            return found


def _said(name: str, patience: int = 1) -> str | None:
    """What has been said under a name within so many milliseconds; None for nothing yet."""
    try:
        return str(_client().blocking_key_value_get(name, patience))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return None


def leave() -> bool:
    """Lets the first process wait for the others to end: JAX aborts those that outlive it.

    Returns:
        Whether this process has joined others, or was about to.
    """
    if global_state.client is None:
        return False
    if _joining.is_set():
        return True
    if jax.process_index() > 0:
        name = f"{_LEFT}/{jax.process_index()}"
        _client().key_value_set(name, "", allow_overwrite=True)
    else:
        _heard_of_all(_LEFT)
    return True


def _heard_of_all(what: str) -> bool:
    """Waits, for `PATIENCE` at most, until all others have said `what` or have left.

    One that is lost does neither.
    """
    until, heard = time.monotonic() + PATIENCE, True
    for other in range(1, jax.process_count()):
        names = [f"{name}/{other}" for name in dict.fromkeys((what, _LEFT))]
        while all(_said(name, 50) is None for name in names):
            if time.monotonic() > until:
                heard = False
                break
    return heard


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.array(devices), (_AXIS,))
