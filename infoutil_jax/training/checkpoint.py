"""A teacher's working directory (NumPy and Orbax on the host). No pickle.

<workdir>/
  config.json              arguments and fingerprints of the data
  running/<run>/<epoch>/   state after the last finished epoch
  stages/<stage>/          variables of a finished stage
  stages/<stage>.json      its epoch, accuracies and digest; the stage exists once this does
  stages/forgetting.safetensors  events of each training image; there before the stage converged
"""

import hashlib
import json
import logging
import math
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from infoutil_jax import files, kinds
from infoutil_jax.errors import InputError

LEFT_OUT = {"turn": False}
"""What a configuration does not say where it is so: what earlier ones say stays true."""


def claim(workdir: Path, config: dict[str, Any]) -> None:
    """Makes `workdir` that of `config`, or raises if it holds something else."""
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file: the teacher needs a directory")
    found = {path.name for path in workdir.iterdir()} if workdir.exists() else set()
    foreign = sorted(found - {"config.json", "config.json.part", "running", "stages"})
    if foreign or (found and "config.json" not in found and found != {"config.json.part"}):
        raise InputError(
            f"{workdir} holds something else than a teacher ({(foreign or sorted(found))[0]}): "
            "choose an empty directory"
        )
    if "config.json" not in found:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", config)
        return
    existing = LEFT_OUT | read_config(workdir)
    for key, value in (LEFT_OUT | config).items():
        if not _same(existing.get(key), value):
            raise InputError(
                f"{workdir} holds a teacher trained with {key} = {existing.get(key)!r}, not "
                f"{value!r}: choose another directory, or remove this one to train again"
            )


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal; floats up to rounding, as machines differ in the last digit."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def is_of(workdir: Path, config: dict[str, Any], stages: Collection[str]) -> bool:
    """Whether these stages of `config` are finished, so that nothing has to be written."""
    if not (workdir / "config.json").exists() or not set(stages) <= set(finished(workdir)):
        return False
    claim(workdir, config)
    return True


CONFIG: Mapping[str, tuple[kinds.Kind, str]] = {
    "backbone": (kinds.text, "the name of a backbone"),
    "options": (kinds.mapping, "a mapping of the backbone's options"),
    "image_size": (lambda v: kinds.many(kinds.count)(v) and len(v) == 2, "height and width"),
    "num_classes": (kinds.count, "a positive integer"),
    "class_names": (kinds.optional(kinds.many(kinds.text)), "a list of names"),
    "mean": (kinds.many(kinds.number), "a list of numbers"),
    "std": (kinds.many(kinds.number), "a list of numbers"),
    "early_epochs": (lambda v: v == 0 or kinds.count(v), "an integer of 0 or more"),
}
"""What a teacher is loaded by."""


def read_config(workdir: Path) -> dict[str, Any]:
    """The arguments of the teacher in `workdir`.

    Raises:
        InputError: there is none, or a file that says something else.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"{workdir} holds no teacher (no config.json): train one first")
    config = _read(path)
    if "format" not in config:
        raise InputError(f"{path} is not a teacher's configuration: train it again")
    if config["format"] != 1:
        raise InputError(f"{path} has format {config['format']}: this version reads format 1")
    return config


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Checks that a configuration says what a teacher is loaded by.

    Raises:
        InputError: naming what it says instead.
    """
    for key, (is_right, what) in CONFIG.items():
        if not is_right(config.get(key)):
            said = kinds.short(config.get(key))
            raise InputError(f"{path} has {key} {said}; it should be {what}: train it again")
    names = config["class_names"]
    if names is not None and len(names) != config["num_classes"]:
        raise InputError(
            f"{path} has {len(names)} class_names for num_classes {config['num_classes']}; they "
            "should be as many: train it again"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = files.parse(files.read(path, files.SMALL), path)
    except (InputError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{path} is not a teacher's configuration ({reason}): train it again"
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a teacher's configuration: train it again")
    return found


def write_json(path: Path, value: Any) -> None:
    """Writes a file that is whole or not there."""
    files.write(path, json.dumps(value, indent=1) + "\n")


def resume(manager: ocp.CheckpointManager, like: Any) -> tuple[int, Any]:
    """The last finished epoch of a run and what was saved after it; 0 and `like` if there is none.

    Args:
        manager: of the run's directory.
        like: a pytree of the same structure, shapes and types as what was saved.

    Raises:
        InputError: what was saved has another structure.
    """
    done = manager.latest_step() or 0
    if not done:
        return 0, like
    try:
        # NumPy targets: the checkpoint may have been written on other devices.
        return done, manager.restore(done, args=ocp.args.StandardRestore(jax.device_get(like)))
    except Exception as error:  # Orbax fails in as many ways as files are damaged
        raise InputError(
            f"the unfinished training in {manager.directory} is damaged, or was saved by another "
            "version, and cannot be resumed: choose another directory, or remove this one"
        ) from error


@contextmanager
def saving(workdir: Path, tree: Any) -> Iterator[None]:
    """Has an error of the machine's be one, and told once, whatever Orbax makes of it.

    Args:
        workdir: the teacher's.
        tree: what Orbax is going to write there.

    Raises:
        OSError: the disk refuses; nothing has begun where there is no room.
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "nbytes")]
    files.find_room(workdir, 2**17 + sum(int(leaf.nbytes) for leaf in leaves))
    logs = [logging.getLogger(name) for name in ("absl", "asyncio")]  # who would tell it, too
    levels = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL)
        yield
    except OSError:
        raise
    except Exception as error:
        for number in files.OF_THE_MACHINE:
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(workdir)) from error
        raise
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def finished(workdir: Path) -> list[str]:
    """Names of the stages that are complete."""
    return sorted(path.stem for path in (workdir / "stages").glob("*.json"))


def save_stage(
    workdir: Path, stage: str, variables: dict[str, Any], record: Mapping[str, Any]
) -> None:
    """Writes the variables of a stage, then its record, which says that they are complete."""
    with saving(workdir, variables), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(workdir / "stages" / stage, variables, force=True)
    place = workdir / "stages" / stage
    hashes = {
        file.relative_to(place).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }
    whole = {**record, "files": hashes}
    sha256 = _digest(read_config(workdir), whole)
    write_json(workdir / "stages" / f"{stage}.json", {**whole, "sha256": sha256})


def _digest(config: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """SHA-256 of all that a teacher is loaded from: the record holds that of each file."""
    return hashlib.sha256(json.dumps([config, record], sort_keys=True).encode()).hexdigest()


def load_stage(
    workdir: Path, stage: str, like: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and record of a finished stage.

    Args:
        workdir: the teacher's.
        stage: its name.
        like: anything of the same structure, shapes and types.

    Raises:
        InputError: no such stage, or files that cannot be read, are of another network, or have
            changed since they were written.
    """
    done = finished(workdir)
    if stage not in done:
        raise InputError(
            f"{workdir} has no teacher of the stage {stage!r}: finished stages are "
            f"{', '.join(done) or 'none'}"
        )
    place, file = workdir / "stages" / stage, workdir / "stages" / f"{stage}.json"
    record = _read(file)
    sha256 = record.pop("sha256", None)  # not there in those of earlier versions
    if sha256 is not None:
        _check_unchanged(workdir, stage, record, sha256, like)
    if not kinds.number(record.get("accuracy")) or not kinds.optional(kinds.number)(
        record.get("known")
    ):
        raise InputError(f"{file} has no accuracy that is a number: train the teacher again")
    try:
        variables = _restored(place, like)
    except Exception as error:  # Orbax fails in as many ways as files are damaged
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the {stage} teacher in {workdir} cannot be read ({reason}): train it again"
        ) from error
    record.pop("files", None)
    return jax.tree.map(jnp.asarray, variables), record


def _check_unchanged(
    workdir: Path, stage: str, record: Mapping[str, Any], sha256: Any, like: dict[str, Any]
) -> None:
    """Checks that configuration, record and files of a stage are as they were written.

    Raises:
        InputError: naming the file that is missing, unexpected or changed.
    """
    place, again = workdir / "stages" / stage, "since it was trained: train it again"
    listed = record.get("files")
    if sha256 != _digest(read_config(workdir), record) or not isinstance(listed, dict):
        raise InputError(f"{workdir / 'config.json'} or {place}.json has changed {again}")
    most = files.SMALL + 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
    there = {f.relative_to(place).as_posix() for f in place.rglob("*") if not f.is_dir()}
    for name in sorted(there | listed.keys()):
        try:
            found = hashlib.sha256(files.read(place / name, most)).hexdigest()
        except (InputError, OSError):
            found = ""
        if found != listed.get(name):
            raise InputError(
                f"the {stage} teacher in {workdir} cannot be read: {place / name} is missing, or "
                f"has changed {again}"
            )


def _restored(place: Path, like: dict[str, Any]) -> Any:
    """The variables in a checkpoint, of the shapes of `like`.

    NumPy arrays, for the checkpoint may have been written on other devices; of those Orbax does not
    look at the shapes (findings/orbax_numpy_shape.sh).
    """
    for file in place.rglob("*"):
        if not file.is_file() and not file.is_dir():  # which would be waited for
            raise ValueError(f"{file} is not a regular file")
    with ocp.StandardCheckpointer() as checkpointer:
        there = checkpointer.metadata(place).item_metadata.tree
        found, wanted = (
            {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}
            for leaves, _ in map(jax.tree_util.tree_flatten_with_path, (there, like))
        )
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                shapes = f"has the shape {found.get(name)}, not {wanted.get(name)}"
                raise ValueError(f"it is of another network: {name} {shapes}")
        target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
        return checkpointer.restore(place, target)
