"""Devices that are asked for, and processes that agree."""

import itertools
import signal
import threading
import time

import jax
import pytest

from infoutil_jax import parallel
from infoutil_jax.errors import InputError


def test_devices_that_are_not_there():
    assert parallel.devices_of("all") == tuple(jax.local_devices())
    assert parallel.devices_of(1) == (jax.local_devices()[0],)
    for wanted in (0, 1000):
        with pytest.raises(InputError, match=f"{wanted} devices are asked for; this machine has"):
            parallel.devices_of(wanted)


@pytest.mark.parametrize(("backend", "most"), [("cpu", 3), ("gpu", 1)])
def test_as_many_programs_run_at_once_as_a_cpu_has_cores(monkeypatch, backend, most):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr("jax.default_backend", lambda: backend)
    running, seen, lock = set(), [], threading.Lock()
    meeting = threading.Barrier(most)  # nobody goes on before so many have come

    def work(number):
        with lock:
            running.add(number)
            seen.append(len(running))
        meeting.wait(10)
        with lock:
            running.discard(number)
        return number * number

    assert parallel.by_core(work, range(6)) == [0, 1, 4, 9, 16, 25]
    assert max(seen) == most


def test_what_fails_on_one_core_is_told():
    with pytest.raises(InputError, match="the third"):
        parallel.by_core(lambda number: _raise("the third") if number == 2 else None, range(4))


def _raise(said):
    raise InputError(said)


def test_one_process_agrees_with_itself():
    assert parallel.agreed("once-1") == "once-1"
    done = []
    assert parallel.first_alone(lambda: done.append(1)) and done == [1]


def test_processes_agree_on_what_the_first_says(monkeypatch):
    """Two processes, told apart by their number alone; the runtime is a dictionary."""
    said = {}

    class Client:
        def key_value_set(self, name, value):
            said[name] = value

        def blocking_key_value_get(self, name, patience):
            return said[name]

    monkeypatch.setattr(parallel, "_client", Client)
    monkeypatch.setattr("jax.process_count", lambda: 2)
    heard = []
    for process in (0, 1):  # each counts its own calls
        monkeypatch.setattr(parallel, "_numbers", itertools.count())
        monkeypatch.setattr("jax.process_index", lambda process=process: process)
        heard.append([parallel.agreed(f"{process} says {n}") for n in range(2)])
    assert heard == [["0 says 0", "0 says 1"]] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost:1", None, None), "process None of None is none"),
        (("localhost:1", 2, 2), "process 2 of 2 is none"),
        (("auto", None, None), "cannot join the processes at 'auto'"),
    ],
)
def test_processes_that_do_not_fit(arguments, message):
    with pytest.raises(InputError, match=message):
        parallel.start(*arguments)


class Runtime:
    """JAX's messages between processes, in one process."""

    def __init__(self):
        self.said = {}

    def key_value_set(self, name, value, allow_overwrite=False):
        self.said[name] = value

    def blocking_key_value_get(self, name, patience):
        until = time.monotonic() + patience / 1000
        while name not in self.said:
            if time.monotonic() > until:
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: nothing was said")
            time.sleep(0.001)
        return self.said[name]


@pytest.fixture
def process(monkeypatch):
    """Makes this the process of a number, of three."""
    runtime = Runtime()
    monkeypatch.setattr(parallel, "_client", lambda: runtime)
    monkeypatch.setattr(parallel.global_state, "client", runtime)
    monkeypatch.setattr(parallel, "_SLICE", 20)
    monkeypatch.setattr(parallel, "PATIENCE", 0.3)
    monkeypatch.setattr("jax.process_count", lambda: 3)

    def become(number):
        monkeypatch.setattr("jax.process_index", lambda: number)
        return runtime

    return become


@pytest.fixture
def terminable():
    """SIGTERM is raised as by the command line."""

    def stop(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("error", "raised", "told"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
        (InputError("no disk"), InputError, "the first process stopped with InputError: no disk"),
    ],
)
def test_where_the_first_process_stops_the_others_do(process, terminable, error, raised, told):
    """Even while they wait for what it never says."""
    process(0)
    with pytest.raises(type(error)), parallel.together():
        raise error
    process(1)
    with pytest.raises(raised) as stopped, parallel.together():
        parallel.agreed("")
    assert str(stopped.value) == told
    assert not [one for one in threading.enumerate() if one.name.startswith("listen")]


def test_where_the_first_process_is_done_the_others_go_on(process, terminable):
    for number in (0, 1):
        process(number)
        with parallel.together():
            time.sleep(0.1)


def test_another_process_that_stops_stops_itself_alone(process, terminable):
    runtime = process(1)
    with pytest.raises(KeyboardInterrupt), parallel.together():
        signal.raise_signal(signal.SIGTERM)
    assert parallel.leave() and runtime.said == {"infoutil_jax/left/1": ""}


def test_who_could_not_join_is_no_longer_about_to(process, terminable):
    with pytest.raises(InputError, match="cannot join the processes at 'auto'"):
        parallel.start("auto")
    runtime = process(2)
    assert parallel.leave() and runtime.said == {"infoutil_jax/left/2": ""}


def test_an_address_that_cannot_be_joined_is_told_as_it_was_given(monkeypatch):
    def unreachable(**given):
        raise RuntimeError("nobody answers")

    monkeypatch.setattr("jax.distributed.initialize", unreachable)
    monkeypatch.setattr("jax.config.update", lambda name, value: None)
    with pytest.raises(InputError, match=r"at 'host:1': nobody answers$"):
        parallel.start("host:1", 2, 1)


def test_who_is_about_to_join_leaves_without_a_word(process, monkeypatch):
    monkeypatch.setattr(parallel, "_joining", threading.Event())
    parallel._joining.set()
    runtime = process(1)
    assert parallel.leave() and runtime.said == {}


def test_the_first_leaves_when_the_others_have_or_after_some_time(process):
    runtime = process(0)
    runtime.said = {"infoutil_jax/left/1": "", "infoutil_jax/left/2": ""}
    assert parallel.leave()
    del runtime.said["infoutil_jax/left/2"]
    started = time.monotonic()
    assert parallel.leave() and 0.3 < time.monotonic() - started < 3


def test_the_first_waits_for_others_that_neither_come_nor_leave(process, monkeypatch):
    """One that has left by a signal is not waited for; one that is lost is, in patience."""
    monkeypatch.setattr(parallel, "_numbers", itertools.count())
    runtime = process(0)
    runtime.said = {"infoutil_jax/here/0/1": "", "infoutil_jax/left/2": ""}
    assert parallel.first_alone(lambda: None)
    runtime.said = {"infoutil_jax/here/1/1": ""}
    started = time.monotonic()
    assert not parallel.first_alone(lambda: None)
    assert 0.3 < time.monotonic() - started < 3


def test_a_process_that_has_joined_none_leaves_alone():
    assert not parallel.leave()


def test_the_others_hear_how_the_work_of_the_first_ends(process, monkeypatch):
    def fails():
        raise OSError("no disk")

    process(0)
    monkeypatch.setattr(parallel, "_numbers", itertools.count())
    with pytest.raises(OSError, match="no disk"):
        parallel.first_alone(fails)
    parallel.first_alone(lambda: None)
    process(1)
    monkeypatch.setattr(parallel, "_numbers", itertools.count())
    with pytest.raises(InputError, match="the first process stopped with OSError: no disk"):
        parallel.first_alone(lambda: None)
    assert parallel.first_alone(fails) is False  # the work is the first's alone


def test_the_first_prepares_and_the_others_hear_that_it_cannot(process, monkeypatch, tmp_path):
    def refuses():
        raise InputError("there is another set")

    for number, prepare in ((0, refuses), (1, lambda: pytest.fail("not the first"))):
        process(number)
        monkeypatch.setattr(parallel, "_numbers", itertools.count())
        alone = parallel.alone_in(tmp_path / "set", prepare)
        with pytest.raises(InputError, match="there is another set"), alone:
            pytest.fail("nobody goes on")


def test_what_the_runtime_cannot_say_is_told_as_it_is(process, monkeypatch):
    def broken(name, patience):
        raise jax.errors.JaxRuntimeError("UNAVAILABLE: the first process is gone")

    monkeypatch.setattr(process(1), "blocking_key_value_get", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="UNAVAILABLE"):
        parallel.agreed("")


def test_several_processes_that_nobody_has_joined_are_told(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    with pytest.raises(InputError, match="2 processes are not joined: call"):
        parallel.agreed("")


@pytest.mark.parametrize(
    ("arguments", "joined"),
    [
        (("auto",), {}),
        (
            ("host:1", 2, 1),
            {"coordinator_address": "host:1", "num_processes": 2, "process_id": 1},
        ),
    ],
)
def test_jax_joins_the_processes_and_they_leave_at_the_end(monkeypatch, arguments, joined):
    called, at_exit = [], []
    monkeypatch.setattr("jax.distributed.initialize", lambda **given: called.append(given))
    monkeypatch.setattr("jax.config.update", lambda name, value: None)
    monkeypatch.setattr(parallel.atexit, "register", at_exit.append)
    assert parallel.start(*arguments) == (0, 1)
    assert called == [joined] and at_exit == [parallel.leave]
