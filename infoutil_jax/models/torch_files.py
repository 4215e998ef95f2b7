"""Tensors out of PyTorch's files, without PyTorch and without running what a pickle asks for."""

from __future__ import annotations

import collections
import io
import math
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from infoutil_jax.errors import InputError
from infoutil_jax.models import layouts

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_TYPES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}

STATES = ("state_dict", "model_state_dict", "model", "net", "network")
"""Where a training's checkpoint keeps its model, the first that is there."""
AVERAGES = (
    *("model_ema", "state_dict_ema", "ema", "ema_state_dict", "ema_model"),
    "model_ema_state_dict",
)
"""Where it keeps an average of the model's weights."""

# Trainings' arguments, counts and best figures: none of them is made, so that nothing runs.
_BESIDE = {
    *(("argparse", "Namespace"), ("collections", "Counter"), ("collections", "defaultdict")),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("dict", "list", "set")),
    *(("torch", name) for name in ("device", "Size", "float16", "bfloat16", "float32", "float64")),
    *(("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode")),
    *(("pathlib", name) for name in ("PosixPath", "WindowsPath", "Path")),
    *(
        (f"numpy.{core}.multiarray", name)
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
}


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a `.safetensors`, `.npz` or `.pth` file, by torchvision's names.

    A checkpoint of a training is looked into (`STATES`): a plain model comes before an average of
    its weights, and where there are both a warning says so. `layouts` lists the names that are
    known.

    Raises:
        InputError: the file does not exist, is of no such format, is damaged, or asks for
            anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a .safetensors or .pth file of weights")
    try:
        loaded: Any
        if path.suffix == ".safetensors":
            loaded = safetensors.numpy.load_file(path)
        elif path.suffix == ".npz":
            loaded = dict(np.load(path, allow_pickle=False))
        else:
            content = path.read_bytes()
            loaded = _read_zip(content) if zipfile.is_zipfile(path) else _read_legacy(content)
        state, taken = _state_in(loaded)
        tensors = None if state is None else layouts.in_torchvisions(state)
    except InputError as error:
        raise InputError(f"{path} is not read: {error}") from None
    except Exception as error:  # a damaged file fails in as many ways as a pickle has opcodes
        raise InputError(
            f"{path} cannot be read as weights ({type(error).__name__}): give a .safetensors file, "
            "or a .pth that torch.save wrote of a state dict"
        ) from error
    if tensors is not None:
        averages = [name for name in AVERAGES if name in loaded]
        if taken in STATES and averages:
            warnings.warn(
                f"{path} holds {taken!r} and {averages[0]!r}, an average of its weights: "
                f"{taken!r} is taken",
                UserWarning,
                stacklevel=2,
            )
        return tensors
    keys = f" (only {', '.join(map(repr, loaded))})" if isinstance(loaded, dict) and loaded else ""
    raise InputError(f"{path} holds no state dict{keys}: save model.state_dict()")


def _state_in(loaded: Any) -> tuple[Mapping[str, np.ndarray] | None, str | None]:
    """The state dict in what a file holds, and the name that it has there."""
    if not isinstance(loaded, Mapping):
        return None, None
    if loaded and all(isinstance(value, np.ndarray) for value in loaded.values()):
        return loaded, None
    for name in (*STATES, *AVERAGES):
        state, _ = _state_in(loaded.get(name))
        if state is not None:
            return state, name
    return None, None


class _Beside:
    """Stands for what a checkpoint holds beside tensors, and is and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def _tensor(
    storage: tuple[np.dtype[Any], bytes], offset: Any, size: Any, stride: Any, *_: Any
) -> np.ndarray:
    """Makes what `torch._utils._rebuild_tensor_v2` makes, from the bytes of a storage.

    `as_strided` checks nothing, so everything is checked here first: a pickle that lies about a
    tensor must not read memory that is not the file's.
    """
    dtype, content = storage
    flat = np.frombuffer(content, dtype)
    size, stride = tuple(size), tuple(stride)
    what = f"a tensor of size {size}, stride {stride} and offset {offset}"
    if not all(type(number) is int and number >= 0 for number in (offset, *size, *stride)):
        raise InputError(f"it has {what}, which must be integers of at least 0")
    if len(size) != len(stride):
        raise InputError(f"it has {what}, whose size and stride differ in length")
    reach = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    end = offset if 0 in size else offset + reach + 1
    if end > len(flat) or math.prod(size) > len(flat):  # a stride of 0 would repeat numbers
        raise InputError(f"{what} reaches beyond its storage of {len(flat)} numbers")
    steps = [step * flat.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps, writeable=False).copy()


class _Unpickler(pickle.Unpickler):
    """Knows tensors and ordered dictionaries; refuses every other name."""

    def __init__(
        self,
        file: io.BytesIO,
        read: Callable[[tuple[Any, ...]], bytes],
        build: Callable[..., Any] = _tensor,
    ) -> None:
        super().__init__(file)
        self.read, self.build = read, build

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: self.build(*arguments)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _TYPES:
            return name
        if (module, name) in _BESIDE:
            return _Beside
        raise InputError(
            f"it asks for {module}.{name}, which is no tensor, and a pickle can run any code; "
            "save model.state_dict() alone"
        )

    def persistent_load(self, pid: tuple[Any, ...]) -> tuple[np.dtype[Any], bytes]:
        content = self.read(pid)
        dtype = np.dtype(_TYPES[pid[1]])
        return dtype, content


def _declared(pid: tuple[Any, ...]) -> int:
    """The bytes that a storage has by its declared type and number of elements."""
    count = pid[4]
    if type(count) is not int or count < 0:
        raise InputError(f"storage {pid[2]} declares {count} numbers; it must be 0 or more")
    length: int = count * np.dtype(_TYPES[pid[1]]).itemsize
    return length


def _checked(content: bytes, pid: tuple[Any, ...]) -> bytes:
    """The bytes of a storage, if they are as many as it declares."""
    if len(content) != _declared(pid):
        raise InputError(
            f"storage {pid[2]} holds {len(content)} bytes instead of the {_declared(pid)} that it "
            "declares"
        )
    return content


def _read_zip(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        index = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        root = index.removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise InputError("it was saved in big-endian order; save it on a little-endian machine")
        file = io.BytesIO(archive.read(index))
        return _Unpickler(
            file, lambda pid: _checked(archive.read(f"{root}data/{pid[2]}"), pid)
        ).load()


def _read_legacy(content: bytes) -> Any:
    """Reads the format before PyTorch 1.6: three headers, a pickle, storages' names and bytes."""
    file = io.BytesIO(content)
    if _Unpickler(file, _nothing).load() != LEGACY_MAGIC:
        raise InputError("it was not written by torch.save")
    for _ in ("version", "system"):
        _Unpickler(file, _nothing).load()
    start = file.tell()
    # The bytes follow the pickle that shapes them: the first reading finds where they start.
    declared: dict[str, tuple[int, int]] = {}

    def note(pid: tuple[Any, ...]) -> bytes:
        declared[pid[2]] = pid[4], _declared(pid)
        return b""

    _Unpickler(file, note, build=_nothing).load()
    storages: dict[str, bytes] = {}
    for name in _Unpickler(file, _nothing).load():
        (count,) = struct.unpack("<q", file.read(8))
        wanted, length = declared[name]
        if count != wanted:
            raise InputError(
                f"storage {name} holds {count} numbers instead of the {wanted} that it declares"
            )
        storages[name] = file.read(length)
    file.seek(start)
    return _Unpickler(file, lambda pid: _checked(storages[pid[2]], pid)).load()


def _nothing(*_: Any) -> bytes:
    return b""
