"""What several tests share: real digits, and a small teacher trained on them once a process."""

import atexit
import contextlib
import os
import shutil
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import jaxtyping
import pytest
import threadpoolctl

# Every worker has a core, so that each computes on one thread: threads of several that wait for one
# another make small matrix products a hundred times slower. NumPy is there already; the variable is
# for SciPy and for the processes that tests start.
threadpoolctl.threadpool_limits(1)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What one worker, a command that a test runs, or an earlier run in whichever clone has compiled, no
# other compiles again, for two weeks. Before JAX.
COMPILED = Path.home() / ".cache" / "infoutil_jax" / "tests"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
for old in COMPILED.glob("*") if COMPILED.is_dir() else ():
    with contextlib.suppress(FileNotFoundError):  # another worker was there first
        if old.stat().st_mtime < time.time() - 14 * 24 * 3600:
            old.unlink()
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
# No test finds what another, or a user, has found out about a folder's images.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="infoutil-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
# Most of the suite's time is compilation: these flags make it a fifth. An XLA that does not know a
# flag stops, so that those of one version are for that version alone.
XLA = {
    "": [
        "--xla_backend_optimization_level=0",
        "--xla_cpu_parallel_codegen_split_count=1",
        "--xla_cpu_multi_thread_eigen=false",
    ],
    "0.10.": ["--xla_cpu_use_fusion_emitters=false"],
    # bfloat16 is wrong on CPUs without it (docs/sharp_edges.md).
    "0.11.": ["--xla_cpu_experimental_ynn_fusion_type="],
}
os.environ["XLA_FLAGS"] = " ".join(
    [flag for of in XLA if version("jaxlib").startswith(of) for flag in XLA[of]]
    + [os.environ.get("XLA_FLAGS", "")]
)


def pytest_sessionfinish():
    """Workers that leave too slowly are killed, and what they know of coverage with them."""
    coverage = sys.modules.get("coverage")
    if coverage and (running := coverage.Coverage.current()):
        running.save()


# Fixtures import what they need when they run, so that tests of the lower modules need nothing
# above them.


@pytest.fixture
def unchecked():
    """As users run the package: without the type checker of the tests, which objects first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def digits():
    from infoutil_jax.data.sources import open_source

    return open_source("digits")


@pytest.fixture(scope="session")
def teacher_dir(digits, tmp_path_factory):
    from infoutil_jax.training.config import TeacherConfig
    from infoutil_jax.training.train_teacher import train_teacher

    workdir = tmp_path_factory.mktemp("teacher") / "digits"
    config = TeacherConfig(width=16, epochs=6, early_epochs=2, early_learning_rate=0.001)
    train_teacher(
        digits.train.arrays(),
        digits.test.arrays(),
        config.resolve(digits),
        workdir=workdir,
        classes=digits.class_names,
    )
    return workdir


@pytest.fixture(scope="session")
def teachers(teacher_dir):
    from infoutil_jax.training.teacher import load_teachers

    return load_teachers(teacher_dir)
