"""Tensors' names from where people have them, made torchvision's (NumPy on the host).

Wrappers leave prefixes (DistributedDataParallel `module.`, torch.compile `_orig_mod.`, Lightning
`model.`), and timm and Hugging Face have names of their own for the networks that we have. A layout
is known by one tensor; what is in none of them keeps its names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np

from infoutil_jax.errors import InputError

Tensors = dict[str, np.ndarray]

KNOWN = "torchvision's names, timm's, Hugging Face's of ResNet and Swin V2, and a ConvNet's"
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
BESIDE = re.compile(r"(criterion|loss|loss_fn)\..*")
"""What is no network's; nor are single numbers, such as counters."""


def in_torchvisions(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """The tensors under torchvision's names, where their layout is known.

    Raises:
        InputError: a network that computes otherwise than ours of that name.
    """
    found = _unwrapped(tensors)
    for sign, convert in _LAYOUTS.items():
        if sign in found:
            # In the order of names: a classifier's is then the last matrix.
            return dict(sorted(convert(found).items()))
    return found


def _unwrapped(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """Takes off what wrappers have put before every name."""
    found = {name: a for name, a in tensors.items() if a.ndim and not BESIDE.fullmatch(name)}
    while found and (common := [p for p in PREFIXES if all(n.startswith(p) for n in found)]):
        found = {name.removeprefix(common[0]): value for name, value in found.items()}
    return {name.replace("._orig_mod.", "."): value for name, value in found.items()}


def _renamed(tensors: Tensors, rules: Mapping[str, str]) -> Tensors:
    """Rewrites each name by every rule that matches it, in their order."""
    found = {}
    for name, value in tensors.items():
        new = name
        for pattern, replacement in rules.items():
            new = re.sub(pattern, replacement, new)
        found[new] = value
    return found


def _timm_vgg(tensors: Tensors) -> Tensors:
    """Its linear layers are convolutions that see the whole map."""
    names = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3"}
    found = _renamed(tensors, {**names, r"^head\.fc": "classifier.6"})
    return {
        name: value.reshape(len(value), -1)
        if name.startswith("classifier.") and value.ndim == 4
        else value
        for name, value in found.items()
    }


# Of an inverted residual; the first block has no expansion.
_EXPANDED = {
    "conv_pw": "conv.0.0",
    "bn1": "conv.0.1",
    "conv_dw": "conv.1.0",
    "bn2": "conv.1.1",
    "conv_pwl": "conv.2",
    "bn3": "conv.3",
}
_FIRST = {"conv_dw": "conv.0.0", "bn1": "conv.0.1", "conv_pw": "conv.1", "bn2": "conv.2"}


def _timm_mobilenet(tensors: Tensors) -> Tensors:
    block = re.compile(r"blocks\.(\d+)\.(\d+)\.(\w+)\.(\w+)")
    places = {(int(m[1]), int(m[2])) for m in map(block.fullmatch, tensors) if m}
    number = {place: i + 1 for i, place in enumerate(sorted(places))}
    others = {
        r"^conv_stem": "features.0.0",
        r"^bn1": "features.0.1",
        r"^conv_head": f"features.{len(places) + 1}.0",
        r"^bn2": f"features.{len(places) + 1}.1",
        r"^classifier": "classifier.1",
    }
    found = {}
    for name, value in tensors.items():
        if m := block.fullmatch(name):
            place = int(m[1]), int(m[2])
            inner = (_FIRST if number[place] == 1 else _EXPANDED).get(m[3], m[3])
            found[f"features.{number[place]}.{inner}.{m[4]}"] = value
        else:
            found |= _renamed({name: value}, others)
    return found


def _timm_swin(tensors: Tensors) -> Tensors:
    found = _renamed(
        tensors,
        {
            r"^patch_embed\.proj": "features.0.0",
            r"^patch_embed\.norm": "features.0.2",
            r"mlp\.fc1": "mlp.0",
            r"mlp\.fc2": "mlp.3",
            r"^head\.fc": "head",
        },
    )
    found = {_swin_stage(name, 0): value for name, value in found.items()}
    for name in [name for name in found if name.endswith("attn.q_bias")]:
        q, v = found.pop(name), found.pop(name.replace("q_bias", "v_bias"))
        found[name.replace("q_bias", "qkv.bias")] = np.concatenate([q, np.zeros_like(q), v])
    return found


def _swin_stage(name: str, before: int) -> str:
    """`features.3.0` of `layers.1.blocks.0`; the merging `before` or at the end of a stage."""
    if m := re.match(r"layers\.(\d+)\.blocks\.(.*)", name):
        return f"features.{2 * int(m[1]) + 1}.{m[2]}"
    if m := re.match(r"layers\.(\d+)\.downsample\.(.*)", name):
        return f"features.{2 * (int(m[1]) + before)}.{m[2]}"
    return name


def _hugging_face_swin(tensors: Tensors) -> Tensors:
    found = _renamed(
        tensors,
        {
            r"^swinv2\.embeddings\.patch_embeddings\.projection": "features.0.0",
            r"^swinv2\.embeddings\.norm": "features.0.2",
            r"^swinv2\.layernorm": "norm",
            r"^swinv2\.encoder\.": "",
            r"^classifier": "head",
            r"attention\.output\.dense": "attn.proj",
            r"attention\.self\.continuous_position_bias_mlp": "attn.cpb_mlp",
            r"attention\.self": "attn",
            r"layernorm_before": "norm1",
            r"layernorm_after": "norm2",
            r"intermediate\.dense": "mlp.0",
            r"output\.dense": "mlp.3",
        },
    )
    found.pop("swinv2.embeddings.mask_token", None)
    found = {_swin_stage(name, 1): value for name, value in found.items()}
    for name in [name for name in found if name.endswith("attn.query.weight")]:
        block = name.removesuffix("query.weight")
        parts = [found.pop(f"{block}{part}.weight") for part in ("query", "key", "value")]
        q, v = (found.pop(f"{block}{part}.bias") for part in ("query", "value"))
        found[f"{block}qkv.weight"] = np.concatenate(parts)
        found[f"{block}qkv.bias"] = np.concatenate([q, np.zeros_like(q), v])
    return found


def _hugging_face_resnet(tensors: Tensors) -> Tensors:
    def convolution(m: re.Match[str]) -> str:
        return f"{'conv' if m[2] == 'convolution' else 'bn'}{int(m[1]) + 1}."

    found = _renamed(
        tensors,
        {
            r"^resnet\.embedder\.embedder\.convolution": "conv1",
            r"^resnet\.embedder\.embedder\.normalization": "bn1",
            r"shortcut\.convolution": "downsample.0",
            r"shortcut\.normalization": "downsample.1",
            r"^classifier\.1": "fc",
        },
    )
    stage = re.compile(r"resnet\.encoder\.stages\.(\d+)\.layers\.")
    layer = re.compile(r"\blayer\.(\d+)\.(convolution|normalization)\.")
    return {
        layer.sub(convolution, stage.sub(lambda m: f"layer{int(m[1]) + 1}.", name)): value
        for name, value in found.items()
    }


def _hugging_face_mobilenet(tensors: Tensors) -> Tensors:
    raise InputError(
        "it is Hugging Face's MobileNet V2, which pads as TensorFlow does and so computes "
        "otherwise than ours: give torchvision's or timm's"
    )


def _convnet(tensors: Tensors) -> Tensors:
    """Dataset distillation's ConvNet, whose classifier sees channels first, of square maps."""
    # `features.4` is a block's convolution, `features.5` its norm; or `layers.conv.1`.
    convs = sorted(
        (int(m[2]), m[1])
        for name, value in tensors.items()
        if value.ndim == 4 and (m := re.fullmatch(r"(.*\.)(\d+)\.weight", name))
    )
    names = {"classifier.weight": "classifier.weight", "classifier.bias": "classifier.bias"}
    for block, (i, owner) in enumerate(convs):
        norm = f"layers.norm.{i}" if owner == "layers.conv." else f"{owner}{i + 1}"
        for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            names[f"{owner}{i}.{leaf}"] = f"block{block}.conv.{leaf}"
            names[f"{norm}.{leaf}"] = f"block{block}.norm.{leaf}"
    found = {names.get(name, name): value for name, value in tensors.items()}
    width = len(tensors[f"{convs[-1][1]}{convs[-1][0]}.weight"])
    matrix = found["classifier.weight"]
    side = round((matrix.shape[1] / width) ** 0.5)
    if matrix.shape[1] != width * side**2:
        raise InputError(
            f"its classifier has {matrix.shape[1]} columns, which are no square maps of {width} "
            "channels: give a ConvNet of square images"
        )
    columns = matrix.reshape(-1, width, side, side).transpose(0, 2, 3, 1)
    return {**found, "classifier.weight": columns.reshape(matrix.shape)}


def _maybe_convnet(tensors: Tensors) -> Tensors:
    return _convnet(tensors) if "classifier.weight" in tensors else tensors


_LAYOUTS: dict[str, Callable[[Tensors], Tensors]] = {
    "pre_logits.fc1.weight": _timm_vgg,
    "conv_stem.weight": _timm_mobilenet,
    "patch_embed.proj.weight": _timm_swin,
    "swinv2.embeddings.patch_embeddings.projection.weight": _hugging_face_swin,
    "resnet.embedder.embedder.convolution.weight": _hugging_face_resnet,
    "mobilenet_v2.conv_stem.first_conv.convolution.weight": _hugging_face_mobilenet,
    "layers.conv.0.weight": _maybe_convnet,
    "features.0.weight": _maybe_convnet,
}
"""Converters, each by a tensor that only its layout has."""
