"""Many devices and processes make the set that one makes, and share training."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from infoutil_jax.data.distilled import DistilledDataset

OPTIONS = [
    "--images-per-class",
    "2",
    "--recipe",
    "infoutil_paper",
    "--budget",
    "32",
    "--pool",
    "60",
]


def command(teacher_dir, workdir, *arguments, devices=1):
    """`infoutil distill` in a process of its own, with so many virtual devices."""
    flag = f"--xla_force_host_platform_device_count={devices}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    words = ["distill", "digits", "--teacher", teacher_dir, "--workdir", workdir]
    call = [sys.executable, "-m", "infoutil_jax.app.cli", *map(str, words), *OPTIONS, *arguments]
    return subprocess.Popen(call, env=environment, stderr=subprocess.PIPE, text=True)


def done(process):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def same(one, other):
    """Selection and images byte for byte, labels and scores to rounding."""
    one.verify()
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_allclose(one.soft_labels, other.soft_labels, atol=1e-5)
    for a, b in zip(one.records, other.records, strict=True):
        for mine, theirs in zip(a["tiles"], b["tiles"], strict=True):
            assert mine["source"] == theirs["source"] and mine["box"] == theirs["box"]
            np.testing.assert_allclose(mine["score"], theirs["score"], rtol=1e-5)


@pytest.fixture(scope="module")
def alone(teacher_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone") / "set"
    done(command(teacher_dir, workdir))
    return DistilledDataset.load(workdir)


def test_eight_devices_make_the_same_set(alone, teacher_dir, tmp_path):
    done(command(teacher_dir, tmp_path / "set", "--devices", "all", devices=8))
    same(DistilledDataset.load(tmp_path / "set"), alone)
    assert not (tmp_path / "set.scoring").exists()


def joined():
    """Arguments of two processes, but for the number."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    return ["--coordinator", address, "--processes", "2", "--process"]


def test_one_that_waits_for_the_others_to_join_hears_sigterm(teacher_dir, tmp_path):
    """The first is there once its port is open; the second, once it has knocked at the first's."""
    with socket.create_server(("localhost", 0)) as nobody:
        address = f"localhost:{nobody.getsockname()[1]}"
        which = ["--coordinator", address, "--processes", "2", "--process", "1"]
        second = command(teacher_dir, tmp_path / "second", *which)
        nobody.settimeout(120)
        nobody.accept()[0].close()
        stopped(second)
    which = joined()
    first = command(teacher_dir, tmp_path / "first", *which, "0")
    host, port = which[1].split(":")
    for _ in range(1200):
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((host, int(port))).close()
            break
        time.sleep(0.1)
    stopped(first)


def stopped(process):
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75 and "terminated; run the same command again" in errors, errors


@pytest.mark.slow
def test_two_processes_of_two_devices_make_the_same_set(alone, teacher_dir, tmp_path):
    which = joined()
    both = [
        command(teacher_dir, tmp_path / "set", *which, str(number), devices=2)
        for number in range(2)
    ]
    for process in both:
        done(process)
    same(DistilledDataset.load(tmp_path / "set"), alone)


@pytest.mark.slow
def test_a_process_goes_on_where_another_is_lost(alone, teacher_dir, tmp_path):
    which = joined()
    first, second = (command(teacher_dir, tmp_path / "set", *which, n) for n in "01")
    parts = tmp_path / "set.scoring"
    while first.poll() is None and not list(parts.rglob("*.npz")):
        time.sleep(0.02)
    second.kill()
    second.communicate()
    done(first)
    same(DistilledDataset.load(tmp_path / "set"), alone)


@pytest.mark.slow
def test_the_first_process_tells_the_others_that_it_fails(teacher_dir, tmp_path):
    """Something is in the way of the set by the time that it is written."""
    which = joined()
    first, second = (command(teacher_dir, tmp_path / "set", *which, n) for n in "01")
    parts = tmp_path / "set.scoring"
    while first.poll() is None and not list(parts.rglob("*.npz")):
        time.sleep(0.02)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").touch()
    errors = [process.communicate(timeout=300)[1] for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [2, 2]
    assert "holds something else" in errors[0] and "Traceback" not in errors[0] + errors[1]
    assert "the first process stopped with InputError" in errors[1]


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["0", "1", "01"])
def test_processes_that_are_terminated_say_so_and_go_on(alone, teacher_dir, tmp_path, stopped):
    """All stop where the first does; another one that does is replaced by the first."""
    which = joined()
    both = [
        command(teacher_dir, tmp_path / "set", "--batch-size", "8", *which, number)
        for number in "01"
    ]
    parts = tmp_path / "set.scoring"
    while both[0].poll() is None and not list(parts.rglob("*.npz")):
        time.sleep(0.02)
    for number in stopped:
        both[int(number)].terminate()
    started = time.monotonic()
    errors = [process.communicate(timeout=300)[1] for process in both]
    done_by = [0, 75] if stopped == "1" else [75, 75]
    assert [process.returncode for process in both] == done_by, errors
    for status, said in zip(done_by, errors, strict=True):
        assert ("infoutil: terminated; run the same command again" in said) == (status == 75)
        assert "Traceback" not in said
    if stopped != "1":
        assert time.monotonic() - started < 20, "nobody is waited for in vain"
        which = joined()
        for process in [command(teacher_dir, tmp_path / "set", *which, n) for n in "01"]:
            done(process)
    same(DistilledDataset.load(tmp_path / "set"), alone)
    assert not parts.exists()


def test_a_run_goes_on_where_one_was_lost(alone, teacher_dir, tmp_path):
    lost = command(teacher_dir, tmp_path / "set", "--batch-size", "8")
    parts = tmp_path / "set.scoring"
    while lost.poll() is None and not list(parts.rglob("*.npz")):
        time.sleep(0.02)
    lost.kill()
    lost.communicate()
    assert not (tmp_path / "set").exists() and len(list(parts.rglob("*.npz"))) >= 1
    done(command(teacher_dir, tmp_path / "set", "--devices", "2", devices=2))
    same(DistilledDataset.load(tmp_path / "set"), alone)


TRAINING = """
import sys
import numpy as np
from infoutil_jax import parallel
from infoutil_jax.data.sources import open_source
from infoutil_jax.training.config import StudentConfig, TeacherConfig
from infoutil_jax.training.student import train_student
from infoutil_jax.training.supervision import Supervision
from infoutil_jax.training.train_teacher import train_teacher

source, devices = open_source("digits", max_per_class=40), parallel.devices_of(4)
data = source.train.arrays(), source.test.arrays()
teaching = TeacherConfig(width=8, epochs=4, early_epochs=0, batch_size=64)
studying = StudentConfig(width=8, epochs=3, labels="hard")
supervision = Supervision(num_classes=10, mean=(0.5,), std=(0.25,))
top1, loss = {}, {}
for count in (1, 4):
    workdir, shared = f"{sys.argv[1]}/{count}", devices[:count]
    (teacher,) = train_teacher(
        *data, teaching, workdir=workdir, classes=10, devices=shared
    ).values()
    top1[count] = teacher.accuracy
    students = train_student(*data, studying, supervision=supervision, devices=shared)
    loss[count] = students.loss
    assert len({*students.variables["params"]["classifier"]["bias"].devices()}) == (3, 1)[count < 4]
assert abs(top1[1] - top1[4]) < 2, top1
np.testing.assert_array_equal(loss[1], loss[4])
"""


@pytest.mark.slow
def test_devices_share_training(tmp_path):
    flag = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    call = [sys.executable, "-c", TRAINING, str(tmp_path)]
    done(subprocess.Popen(call, env=os.environ | flag, stderr=subprocess.PIPE, text=True))
