"""A teacher's working directory (NumPy and Orbax on the host). No pickle.

<workdir>/
  config.json              arguments and fingerprints of the data
  running/<run>/<epoch>/   state after the last finished epoch
  stages/<stage>/          variables of a finished stage
  stages/<stage>.json      its epoch and accuracies; the stage exists once this does
  stages/forgetting.safetensors  events of each training image; there before the stage converged
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from infoutil_jax.errors import InputError


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
    existing = read_config(workdir)
    for key, value in config.items():
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


def read_config(workdir: Path) -> dict[str, Any]:
    """The arguments of the teacher in `workdir`; raises InputError if there is none."""
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"{workdir} holds no teacher (no config.json): train one first")
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        version = config["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a teacher's configuration: train it again") from error
    if version != 1:
        raise InputError(f"{path} has format {version}: this version reads format 1")
    return config


def write_json(path: Path, value: Any) -> None:
    """Writes a file that is whole or not there."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file that is whole or not there."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


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
    except ValueError as error:
        raise InputError(
            f"the unfinished training in {manager.directory} was saved by another version and "
            "cannot be resumed: choose another directory, or remove this teacher's"
        ) from error


def finished(workdir: Path) -> list[str]:
    """Names of the stages that are complete."""
    return sorted(path.stem for path in (workdir / "stages").glob("*.json"))


def save_stage(
    workdir: Path, stage: str, variables: dict[str, Any], record: Mapping[str, Any]
) -> None:
    """Writes the variables of a stage, then its record, which says that they are complete."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(workdir / "stages" / stage, variables, force=True)
    write_json(workdir / "stages" / f"{stage}.json", dict(record))


def load_stage(
    workdir: Path, stage: str, like: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables and record of a finished stage.

    Args:
        workdir: the teacher's.
        stage: its name.
        like: anything of the same structure, shapes and types.

    Raises:
        InputError: no such stage, or files that cannot be read.
    """
    done = finished(workdir)
    if stage not in done:
        raise InputError(
            f"{workdir} has no teacher of the stage {stage!r}: finished stages are "
            f"{', '.join(done) or 'none'}"
        )
    # NumPy targets: the checkpoint may have been written on other devices.
    target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    try:
        record = json.loads((workdir / "stages" / f"{stage}.json").read_text())
        record["accuracy"] = float(record["accuracy"])
        with ocp.StandardCheckpointer() as checkpointer:
            variables = checkpointer.restore(workdir / "stages" / stage, target)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"the {stage} teacher in {workdir} cannot be read ({reason}): train it again"
        ) from error
    return jax.tree.map(jnp.asarray, variables), record
