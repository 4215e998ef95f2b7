"""The lists of packages that CI installs: every file by its hash, from nowhere in particular."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import lock

ROOT = Path(__file__).parents[1]
ENTRY = re.compile(r"([A-Za-z0-9._-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}\n")


def entries(name):
    """Name and version of each package of a list."""
    text = (ROOT / name).read_text()
    body = text.removeprefix(lock.HEAD[name])
    assert ENTRY.sub("", body) == "" and text != body
    assert "://" not in text
    return {canonical(found): version for found, version in ENTRY.findall(body)}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_has_a_hash_and_no_address():
    assert len(entries("requirements.lock")) > 100


def test_both_lists_have_the_same_versions():
    whole, build = entries("requirements.lock"), entries("requirements-build.lock")
    assert {canonical(name) for name in lock.BUILD} <= build.keys()
    assert {name: whole[name] for name in build.keys() & whole.keys()} == {
        name: version for name, version in build.items() if name in whole
    }


def test_the_list_has_what_the_package_and_its_tests_ask_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    groups = ("test", "tfds", "bands", "ray", "tensorboard", "docs")
    asked = [*project["dependencies"], *(one for group in groups for one in extras[group])]
    found = entries("requirements.lock")
    for one in map(Requirement, asked):
        if canonical(one.name) != "infoutil-jax":
            assert found[canonical(one.name)] in one.specifier, one


def test_pytorch_is_of_the_build_without_cuda_and_what_it_needs_is_in_the_list():
    (name, version), *others = entries("requirements-torch.lock").items()
    assert f"{name}=={version}" == lock.PYTORCH and version.endswith("+cpu") and not others
    needs = {"sympy", "networkx", "filelock", "fsspec", "jinja2"}
    assert needs <= entries("requirements.lock").keys()


def told(url="https://host/one-1.0-py3-none-any.whl", name="One", **archive):
    return {
        "metadata": {"name": name, "version": "1.0"},
        "download_info": {"url": url, "archive_info": archive},
    }


def test_a_list_is_sorted_and_says_only_names_versions_and_hashes():
    report = {
        "install": [
            told(name="two", hashes={"sha256": "b" * 64}),
            told(hashes={"sha256": "a" * 64}),
        ]
    }
    assert lock.locked(report) == (
        f"One==1.0 \\\n    --hash=sha256:{'a' * 64}\ntwo==1.0 \\\n    --hash=sha256:{'b' * 64}\n"
    )


@pytest.mark.parametrize(
    "one", [told(), told(url="file:///one-1.0-py3-none-any.whl", hashes={"sha256": "a" * 64})]
)
def test_what_is_built_here_or_has_no_hash_is_in_no_list(one):
    with pytest.raises(SystemExit, match="not from pip's index"):
        lock.locked({"install": [one]})


def test_only_pytorch_may_come_from_elsewhere():
    name, version = lock.PYTORCH.split("==")
    one = told(url="file:///torch.whl", name=name, hashes={"sha256": "a" * 64})
    one["metadata"]["version"] = version
    assert lock.locked({"install": [one]}).startswith(lock.PYTORCH)


def test_settings_of_a_machine_are_left_out():
    environment = {"PIP_INDEX_URL": "x", "PIP_FIND_LINKS": "y", "PIP_CERT": "z", "HOME": "/h"}
    found = lock.own_index(environment)
    assert found == {"PIP_CERT": "z", "HOME": "/h", "PIP_CONFIG_FILE": "/dev/null"}
