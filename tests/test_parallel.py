"""Devices that are asked for, and processes that agree."""

import itertools

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
