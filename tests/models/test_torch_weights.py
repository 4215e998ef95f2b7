"""torchvision's weights: the same logits, the same bits back, and nothing else from a pickle."""

import collections
import io
import json
import pickle
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from experiments.torchvision_parity import CASES, RECORDED, RECORDED_SIZE, ours, random_tensor
from infoutil_jax import models
from infoutil_jax.errors import InputError
from infoutil_jax.models.torch_weights import load_torchvision, read_tensors, to_torchvision

LOGITS = json.loads(Path(RECORDED).read_text())
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "mobilenet_v2": 3_504_872,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "swin_v2_t": 28_351_570,
}


def random_weights(name, options, classes=10):
    """What `random_tensor` gives for every tensor that torchvision's model has."""
    stem = {"stem": "imagenet"} if name.startswith(("resnet", "mobilenet")) else {}
    head = {"head": "imagenet"} if name.startswith("vgg") else {}
    architecture = models.Architecture.of(
        name, num_classes=classes, image_size=224, **stem, **head, **options
    )
    module = models.create_partly(architecture, lambda path: False, rngs=nnx.Rngs(0))
    return {key: random_tensor(key, value.shape) for key, value in to_torchvision(module).items()}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_torchvisions(name):
    _, variables = models.outline(models.Architecture.of(name, num_classes=1000, image_size=224))
    leaves = jax.tree.leaves(variables["params"])
    assert sum(int(np.prod(leaf.shape)) for leaf in leaves) == PARAMETERS[name]


@pytest.mark.parametrize(
    "case",
    [
        *("resnet18", "resnet50", "mobilenet_v2", "vgg11_bn", "swin_v2_t"),
        pytest.param("vgg11", marks=pytest.mark.slow),  # of the same layers as vgg11_bn
    ],
)
def test_logits_are_torchvisions_and_every_bit_comes_back(case, tmp_path):
    """Recorded by experiments/torchvision_parity.py, from torchvision's own modules."""
    name, options, _ = CASES[case]
    tensors = random_weights(name, options)
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(tensors, path)
    wanted = np.array(LOGITS[case])
    got = ours(name, options, path, RECORDED_SIZE)
    assert np.abs(got - wanted).max() / np.abs(wanted).max() < 1e-4
    back = to_torchvision(load_torchvision(name, path, **options))
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        assert back[key].tobytes() == value.tobytes(), key


@pytest.fixture(scope="module")
def small():
    """A ResNet-18 of width 8, its tensors under torchvision's names."""
    module = models.create(
        "resnet18", num_classes=5, image_size=32, width=8, stem="imagenet", rngs=nnx.Rngs(1)
    )
    return to_torchvision(module)


def test_the_classifier_starts_anew_for_other_classes(small, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(small, path)
    same = to_torchvision(load_torchvision("resnet18", path, width=8))
    other = to_torchvision(load_torchvision("resnet18", path, num_classes=3, width=8))
    assert same["fc.weight"].shape == (5, 64) and other["fc.weight"].shape == (3, 64)
    for key, value in small.items():
        np.testing.assert_array_equal(same[key], value)
        if not key.startswith("fc"):
            np.testing.assert_array_equal(other[key], value)


def test_what_does_not_fit_is_listed(small, tmp_path):
    path = tmp_path / "weights.safetensors"
    wrong = {**small, "extra.weight": np.zeros(3, np.float32)}
    wrong["conv1.weight"] = np.zeros((8, 3, 3, 3), np.float32)
    del wrong["bn1.bias"]
    safetensors.numpy.save_file(wrong, path)
    sentence = (
        r"no resnet18 of these options: of its tensors 1 missing \(bn1.bias\); 1 unexpected "
        r"\(extra.weight\); 1 of another shape \(conv1.weight \[8, 3, 3, 3\] instead of "
        r"\[8, 3, 7, 7\]\)"
    )
    with pytest.raises(InputError, match=sentence):
        load_torchvision("resnet18", path, width=8, stem="imagenet")  # not what the file shows


class _Global:
    """Pickles as a reference to any name."""

    def __init__(self, module, name, arguments=()):
        self.module, self.name, self.arguments = module, name, arguments


class _Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class _Pickler(pickle._Pickler):
    """Writes what torch.save writes, without torch."""

    def persistent_id(self, value):
        if isinstance(value, _Storage):
            kind = _Global("torch", "FloatStorage")
            return ("storage", kind, value.key, "cpu", value.array.size)
        return None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, _Global) and not value.arguments:
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _Global):
            self.save(_Global(value.module, value.name))
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def tensor(key, array, offset=0, size=None, stride=None):
    size = array.shape if size is None else size
    if stride is None:
        stride = tuple(s // array.itemsize for s in array.strides)
    rebuild = (_Storage(key, array), offset, size, stride, False, collections.OrderedDict())
    return _Global("torch._utils", "_rebuild_tensor_v2", rebuild)


def dumps(*values):
    out = io.BytesIO()
    for value in values:
        _Pickler(out, 2).dump(value)
    return out.getvalue()


def save_zip(path, state, arrays):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", dumps(state))
        archive.writestr("weights/byteorder", "little")
        for key, array in arrays.items():
            archive.writestr(f"weights/data/{key}", array.tobytes())


def save_legacy(path, state, arrays, counts=None):
    content = dumps(0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, state, list(arrays))
    for key, array in arrays.items():
        count = array.size if counts is None else counts[key]
        content += np.int64(count).tobytes() + array.tobytes()
    path.write_bytes(content)


ARRAYS = {
    "0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "1": np.array([7, 8, 9], np.float32),
}


def test_both_formats_of_pth_are_read_without_torch(tmp_path):
    state = {"a": tensor("0", ARRAYS["0"]), "turned": tensor("0", ARRAYS["0"], 0, (3, 2), (1, 3))}
    state["tail"] = tensor("1", ARRAYS["1"], 1, (2,), (1,))
    save_zip(tmp_path / "zip.pth", state, ARRAYS)
    save_legacy(tmp_path / "legacy.pth", state, ARRAYS)
    for name in ("zip.pth", "legacy.pth"):
        read = read_tensors(tmp_path / name)
        np.testing.assert_array_equal(read["a"], ARRAYS["0"])
        np.testing.assert_array_equal(read["turned"], ARRAYS["0"].T)
        np.testing.assert_array_equal(read["tail"], [8, 9])


@pytest.mark.parametrize("save", ["zip", "legacy"])
@pytest.mark.parametrize(
    "nest", ["state_dict", "model_state_dict", "model", "net", "model_ema", "ema"]
)
def test_a_trainings_checkpoint_is_looked_into(tmp_path, nest, save):
    best = _Global(
        "numpy.core.multiarray", "scalar", (_Global("numpy", "dtype", ("f8",)), b"12345678")
    )
    counts = _Global("collections", "Counter", ({"milestone": 1},))
    checkpoint = {
        "epoch": 7,
        nest: {"module.a": tensor("0", ARRAYS["0"]), "module.b": tensor("1", ARRAYS["1"])},
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.1}]},
        "args": _Global("argparse", "Namespace", ("ignored",)),
        "best": best,
        "lr_scheduler": {"milestones": counts},
    }
    {"zip": save_zip, "legacy": save_legacy}[save](tmp_path / "last.pth", checkpoint, ARRAYS)
    read = read_tensors(tmp_path / "last.pth")
    assert read.keys() == {"a", "b"}
    np.testing.assert_array_equal(read["a"], ARRAYS["0"])


def test_of_a_model_and_its_average_the_model_is_taken_and_said(tmp_path):
    checkpoint = {
        "model_ema": {"a": tensor("1", ARRAYS["1"]), "n_averaged": tensor("1", ARRAYS["1"])},
        "model": {"a": tensor("0", ARRAYS["0"])},
    }
    save_zip(tmp_path / "last.pth", checkpoint, ARRAYS)
    sentence = r"last.pth holds 'model' and 'model_ema', an average .*: 'model' is taken"
    with pytest.warns(UserWarning, match=sentence):
        read = read_tensors(tmp_path / "last.pth")
    np.testing.assert_array_equal(read["a"], ARRAYS["0"])
    save_zip(tmp_path / "other.pth", {"weights_of_mine": {}, "epoch": 3}, {})
    with pytest.raises(InputError, match=r"no state dict \(only 'weights_of_mine', 'epoch'\)"):
        read_tensors(tmp_path / "other.pth")


def test_code_in_a_pickle_is_never_run(tmp_path):
    mark = tmp_path / "mark"
    state = {"a": _Global("os", "system", (f"touch {mark}",))}
    save_zip(tmp_path / "evil.pth", state, {})
    with pytest.raises(
        InputError, match=r"evil.pth is not read: it asks for os.system, which is no tensor"
    ):
        read_tensors(tmp_path / "evil.pth")
    assert not mark.exists()


def test_bad_files_are_told(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_tensors(tmp_path / "none.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    with pytest.raises(InputError, match="cannot be read as weights"):
        read_tensors(tmp_path / "noise.pth")
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    with pytest.raises(InputError, match="cannot be read as weights"):
        read_tensors(tmp_path / "noise.safetensors")
    save_zip(tmp_path / "list.pth", [1, 2], {})
    with pytest.raises(InputError, match="holds no state dict"):
        read_tensors(tmp_path / "list.pth")


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.parametrize(
    ("offset", "size", "stride", "sentence"),
    [
        (2, (3,), (-1,), "integers of at least 0"),
        (0, (-2, 3), (3, 1), "integers of at least 0"),
        (-1, (2,), (1,), "integers of at least 0"),
        (0, (2.0,), (1,), "integers of at least 0"),
        (0, (2, 3), (1,), "differ in length"),
        (2, (4,), (1,), "reaches beyond its storage of 3 numbers"),
        (0, (2, 2), (2, 1), "reaches beyond its storage of 3 numbers"),
        (0, (4,), (0,), "reaches beyond its storage of 3 numbers"),
        (0, (2, 2), (0, 1), "reaches beyond its storage of 3 numbers"),
        (4, (0,), (1,), "reaches beyond its storage of 3 numbers"),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(save, offset, size, stride, sentence, tmp_path):
    path = tmp_path / "bad.pth"
    save(path, {"a": tensor("1", ARRAYS["1"], offset, size, stride)}, {"1": ARRAYS["1"]})
    with pytest.raises(InputError, match=f"bad.pth is not read: .*{sentence}"):
        read_tensors(path)


@pytest.mark.parametrize("length", [2, 4])
def test_a_storage_of_another_length_than_declared_is_refused(length, tmp_path):
    state = {"a": tensor("1", ARRAYS["1"], 0, (2,), (1,))}
    save_zip(tmp_path / "bad.pth", state, {"1": np.zeros(length, np.float32)})
    sentence = f"bad.pth is not read: storage 1 holds {4 * length} bytes instead of the 12"
    with pytest.raises(InputError, match=sentence):
        read_tensors(tmp_path / "bad.pth")


@pytest.mark.parametrize("count", [-1, 2, 4, 2**62])
def test_a_legacy_storage_of_another_count_than_declared_is_refused(count, tmp_path):
    state = {"a": tensor("1", ARRAYS["1"], 0, (2,), (1,))}
    save_legacy(tmp_path / "bad.pth", state, {"1": ARRAYS["1"]}, {"1": count})
    sentence = f"bad.pth is not read: storage 1 holds {count} numbers instead of the 3"
    with pytest.raises(InputError, match=sentence):
        read_tensors(tmp_path / "bad.pth")


def test_a_legacy_storage_that_is_cut_off_is_refused(tmp_path):
    state = {"a": tensor("1", ARRAYS["1"], 0, (2,), (1,))}
    save_legacy(tmp_path / "bad.pth", state, {"1": ARRAYS["1"]})
    content = (tmp_path / "bad.pth").read_bytes()
    (tmp_path / "bad.pth").write_bytes(content[:-4])
    with pytest.raises(InputError, match="storage 1 holds 8 bytes instead of the 12"):
        read_tensors(tmp_path / "bad.pth")
