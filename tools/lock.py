"""Writes the list of packages that CI installs, with the hash of each one's file.

    python -m tools.lock

The versions are those of the environment that runs it. The hashes are what pip's own index says of
the one file of each package that fits Python 3.11 on Linux x86_64: a wheel, or the sdist where
there is none. Settings of this machine that name other indexes, folders or constraints are not
read.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PLATFORM = ("3.11", "linux", "x86_64")
BUILD = ("hatchling", "editables", "setuptools", "wheel")
"""What builds this package in place, and packages that have no wheel. Others ask for the last two,
which `pip freeze` leaves out."""
PYTORCH = "torch==2.13.0+cpu"
"""PyTorch without CUDA, which has gigabytes. PyPI has no such file: pip takes it from where the
machine's settings say."""
HEAD = {
    "requirements.lock": """\
# What CI installs: every package that pip install '.[test]' brings on Python 3.11, Linux x86_64.
# pyproject.toml has the ranges that users get. Made anew, from an environment that passes, by:
#     make lock
""",
    "requirements-build.lock": """\
# What CI builds with; installed before the packages of requirements.lock. Made by: make lock
""",
    "requirements-torch.lock": """\
# PyTorch without CUDA, on which tests run where pip is set to find it. Made by: make lock
""",
}
_ELSEWHERE = ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "CONSTRAINT", "NO_INDEX")


def locked(report: Mapping[str, Any]) -> str:
    """The lines of a lock, by a report of what pip would install.

    Raises:
        SystemExit: a package comes from somewhere else than an index, or without a hash.
    """
    lines = {}
    for package in report["install"]:
        about, found = package["metadata"], package["download_info"]
        digest = found.get("archive_info", {}).get("hashes", {}).get("sha256")
        one = f"{about['name']}=={about['version']}"
        if digest is None or not (found["url"].startswith("https://") or one == PYTORCH):
            raise SystemExit(f"{about['name']} comes from {found['url']}, not from pip's index")
        lines[about["name"].lower()] = f"{one} \\\n    --hash=sha256:{digest}\n"
    return "".join(lines[name] for name in sorted(lines))


def own_index(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which pip asks its own index alone."""
    taken = {f"PIP_{name}" for name in _ELSEWHERE}
    kept = {name: value for name, value in environment.items() if name not in taken}
    return kept | {"PIP_CONFIG_FILE": os.devnull}


def frozen() -> list[str]:
    """The packages of this environment with their versions, without this one and PyTorch."""
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return [line for line in lines if line and " @ " not in line and line != PYTORCH]


def report_of(
    wanted: Iterable[str],
    *options: str,
    versions: Sequence[str],
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What pip says that it would install.

    Args:
        wanted: requirements.
        *options: of pip.
        versions: that packages have, where they are installed at all.
        environment: of pip; None for one in which it asks its own index alone.
    """
    with tempfile.TemporaryDirectory() as name:
        asked, bounds, told = (Path(name, one) for one in ("asked", "bounds", "told"))
        asked.write_text("\n".join(wanted))
        bounds.write_text("\n".join(versions))
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--dry-run", "--ignore-installed", "--report", told, *options),
            *("--requirement", asked, "--constraint", bounds),
        ]
        environment = own_index(os.environ) if environment is None else environment
        subprocess.run(list(map(str, command)), check=True, env=environment)
        found: dict[str, Any] = json.loads(told.read_text())
    return found


def main() -> int:
    """Writes the lists beside pyproject.toml."""
    here = (".".join(platform.python_version_tuple()[:2]), sys.platform, platform.machine())
    if here != PLATFORM:
        print(f"the lists are for {' '.join(PLATFORM)}; this is {' '.join(here)}", file=sys.stderr)
        return 2
    root, versions = Path(__file__).parents[1], frozen()
    written = {
        "requirements.lock": locked(report_of(versions, "--no-deps", versions=versions)),
        "requirements-build.lock": locked(report_of(BUILD, versions=versions)),
        "requirements-torch.lock": locked(
            report_of([PYTORCH], "--no-deps", versions=[], environment=os.environ)
        ),
    }
    for name, lines in written.items():
        (root / name).write_text(HEAD[name] + lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
