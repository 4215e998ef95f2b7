"""Weights from where people have them: timm, Hugging Face, wrappers, ConvNets, other channels."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from experiments.layout_parity import CASES, RECORDED, drawn
from experiments.torchvision_parity import ours
from infoutil_jax import models
from infoutil_jax.errors import InputError
from infoutil_jax.models.layouts import in_torchvisions
from infoutil_jax.models.torch_weights import (
    classes_in,
    load_torchvision,
    of_channels,
    options_in,
    read_tensors,
    to_torchvision,
)

THEIRS = json.loads(gzip.decompress(RECORDED.read_bytes()))
rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    "case",
    [
        *("timm resnet18", "timm mobilenetv2_100", "timm swinv2_tiny"),
        pytest.param("timm vgg11_bn", marks=pytest.mark.slow),
        *("Hugging Face resnet-18", "Hugging Face resnet-50", "Hugging Face swinv2-tiny"),
    ],
)
def test_logits_are_the_librarys(case, tmp_path):
    """Recorded by experiments/layout_parity.py, from the libraries' own modules."""
    name, side, _, _ = CASES[case]
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(drawn(THEIRS[case]["shapes"]), path)
    assert classes_in(read_tensors(path)) == 10
    wanted = np.array(THEIRS[case]["logits"])
    got = ours(name, {}, path, side)[0]
    assert np.abs(got - wanted).max() / np.abs(wanted).max() < 1e-4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timm resnet18", "Hugging Face resnet-18"),
        ("timm resnet50", "Hugging Face resnet-50"),
        ("timm resnet101", "Hugging Face resnet-101"),
        ("timm swinv2_tiny", "Hugging Face swinv2-tiny"),
    ],
)
def test_two_libraries_layouts_become_one(one, other):
    def converted(case):
        shapes = THEIRS[case]["shapes"]
        tensors = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
        return {key: value.shape for key, value in in_torchvisions(tensors).items()}

    assert THEIRS[one]["shapes"].keys() != THEIRS[other]["shapes"].keys()
    assert len(converted(one)) > 100 and converted(one) == converted(other)


def test_timms_vgg_has_torchvisions_tensors():
    """Their values are those of test_torch_weights, or of `pytest -m slow`."""
    shapes = THEIRS["timm vgg11_bn"]["shapes"]
    theirs = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    architecture = models.Architecture.of(
        "vgg11_bn", num_classes=10, image_size=224, head="imagenet"
    )
    module = models.create_partly(architecture, lambda path: False, rngs=nnx.Rngs(0))
    wanted = {key: value.shape for key, value in to_torchvision(module).items()}
    assert {key: value.shape for key, value in in_torchvisions(theirs).items()} == wanted


@pytest.fixture(scope="module")
def small():
    """A ResNet-18 of width 8, its tensors under torchvision's names."""
    module = models.create(
        "resnet18", num_classes=5, image_size=32, width=8, stem="imagenet", rngs=nnx.Rngs(1)
    )
    return to_torchvision(module)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "model.net."],
)
def test_what_wrappers_put_before_names_is_taken_off(small, tmp_path, prefix):
    path = tmp_path / "weights.safetensors"
    wrapped = {prefix + key: value for key, value in small.items()}
    safetensors.numpy.save_file(
        {**wrapped, "n_averaged": np.array(3), "criterion.weight": np.ones(5)}, path
    )
    got = to_torchvision(load_torchvision("resnet18", path))
    assert got.keys() == small.keys()
    for key, value in small.items():
        assert got[key].tobytes() == value.tobytes(), key


def test_a_part_that_was_compiled_alone_has_its_name(small):
    compiled = {key.replace("layer1.", "layer1._orig_mod."): small[key] for key in small}
    assert compiled.keys() != small.keys() and in_torchvisions(compiled).keys() == small.keys()
    # A prefix of some names only is no wrapper's.
    some = {"module.a": np.zeros(1), "b": np.zeros(1)}
    assert in_torchvisions(some).keys() == some.keys()


def test_grey_images_under_a_summed_first_layer_are_colour_ones(small, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(small, path)
    grey = rng.normal(size=(2, 32, 32, 1)).astype(np.float32)
    colour = models.as_predict(load_torchvision("resnet18", path, image_size=32))
    with pytest.warns(UserWarning, match="images of 3 channels: its first layer is summed for 1"):
        one = models.as_predict(load_torchvision("resnet18", path, image_size=32, channels=1))
    wanted = colour[0](colour[1], grey.repeat(3, -1))
    np.testing.assert_allclose(one[0](one[1], grey), wanted, 1e-4, 1e-5)


def test_more_channels_repeat_the_first_layer_and_keep_its_sum(small, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(small, path)
    with pytest.warns(UserWarning, match="repeated in turn for 6"):
        six = to_torchvision(load_torchvision("resnet18", path, channels=6))
    kernel = small["conv1.weight"]
    np.testing.assert_allclose(six["conv1.weight"], np.concatenate([kernel, kernel], 1) / 2, 1e-6)
    four = of_channels(kernel, 4)
    np.testing.assert_allclose(four, kernel[:, [0, 1, 2, 0]] * 0.75, 1e-6)
    np.testing.assert_allclose(of_channels(kernel[:, :1], 3), kernel[:, [0, 0, 0]] / 3, 1e-6)


def convnet(tensors, convs, norms, images):
    """Dataset distillation's ConvNet as written in PyTorch: channels first throughout."""
    x = jnp.asarray(images.transpose(0, 3, 1, 2))
    for conv, norm in zip(convs, norms, strict=True):
        x = jax.lax.conv_general_dilated(x, tensors[f"{conv}.weight"], (1, 1), "SAME")
        x = x + tensors[f"{conv}.bias"][:, None, None]
        if f"{norm}.running_mean" in tensors:
            mean, var = (tensors[f"{norm}.running_{of}"][:, None, None] for of in ("mean", "var"))
        else:
            mean, var = x.mean((2, 3), keepdims=True), x.var((2, 3), keepdims=True)
        if f"{norm}.weight" in tensors:
            scale, shift = (tensors[f"{norm}.{of}"][:, None, None] for of in ("weight", "bias"))
            x = (x - mean) / jnp.sqrt(var + 1e-5) * scale + shift
        x = jax.nn.relu(x)
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    return x.reshape(len(x), -1) @ tensors["classifier.weight"].T + tensors["classifier.bias"]


@pytest.mark.parametrize(
    ("norm", "convs", "norms", "ending"),
    [
        ("instance", *([f"features.{i + j}" for i in (0, 4, 8)] for j in (0, 1)), ".safetensors"),
        ("batch", *([f"features.{i + j}" for i in (0, 4, 8)] for j in (0, 1)), ".safetensors"),
        ("none", [f"features.{i}" for i in (0, 3, 6)], ["no"] * 3, ".safetensors"),
        ("batch", *([f"layers.{of}.{i}" for i in range(3)] for of in ("conv", "norm")), ".npz"),
    ],
)
def test_dataset_distillations_convnets_have_their_logits(tmp_path, norm, convs, norms, ending):
    tensors = {
        "classifier.weight": rng.normal(size=(4, 8 * 2 * 2)),
        "classifier.bias": rng.normal(size=4),
    }
    for i, (conv, name) in enumerate(zip(convs, norms, strict=True)):
        tensors[f"{conv}.weight"] = rng.normal(size=(8, 8 if i else 3, 3, 3)) / 5
        tensors[f"{conv}.bias"] = rng.normal(size=8)
        if norm != "none":
            tensors |= {f"{name}.{of}": rng.uniform(0.5, 1, 8) for of in ("weight", "bias")}
        if norm == "batch":
            running = ("running_mean", "running_var")
            tensors |= {f"{name}.{of}": rng.uniform(0.5, 1, 8) for of in running}
    tensors = {key: value.astype(np.float32) for key, value in tensors.items()}
    path = tmp_path / f"convnet{ending}"
    if ending == ".npz":
        np.savez(path, **tensors)
    else:
        safetensors.numpy.save_file(tensors, path)
    images = rng.normal(size=(3, 16, 16, 3)).astype(np.float32)
    predict, variables = models.as_predict(load_torchvision("convnet3", path, image_size=16))
    wanted = convnet(tensors, convs, norms, images)
    np.testing.assert_allclose(predict(variables, images), wanted, 1e-3, 1e-4)
    assert options_in("convnet3", read_tensors(path)) == {"width": 8, "norm": norm}


def test_a_swins_classifier_starts_anew_and_its_window_is_seen(tmp_path):
    shapes = THEIRS["Hugging Face swinv2-tiny"]["shapes"]
    tensors = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    own = "swinv2.encoder.layers.0.blocks.0.attention.self.relative_coords_table"
    tensors[own] = np.zeros((1, 31, 31, 2), np.float32)
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path)
    assert options_in("swin_v2_t", read_tensors(path)) == {"window": 16}
    other = to_torchvision(load_torchvision("swin_v2_t", path, num_classes=3))
    assert other["head.weight"].shape == (3, 768) and np.ptp(other["head.weight"]) > 0
    assert not other["features.7.1.mlp.3.weight"].any()


def test_networks_that_compute_otherwise_and_unknown_names_are_told(small, tmp_path):
    path = tmp_path / "weights.safetensors"
    first = "mobilenet_v2.conv_stem.first_conv.convolution.weight"
    safetensors.numpy.save_file({first: np.zeros((32, 3, 3, 3), np.float32)}, path)
    with pytest.raises(InputError, match="is not read: it is Hugging Face's MobileNet V2, which"):
        read_tensors(path)
    safetensors.numpy.save_file({f"mine.{key}": value for key, value in small.items()}, path)
    sentence = r"missing \(bn1.bias, .* unexpected \(mine.bn1.bias, .*; known are torchvision's"
    with pytest.raises(InputError, match=sentence) as raised:
        load_torchvision("resnet18", path)
    assert "\n" not in str(raised.value)
    oblong = {
        "features.0.weight": np.zeros((8, 3, 3, 3)),
        "classifier.weight": np.zeros((2, 8 * 6)),
    }
    safetensors.numpy.save_file(oblong, path)
    with pytest.raises(InputError, match="48 columns, which are no square maps of 8 channels"):
        read_tensors(path)
