"""Gradient norms as torch.func and opacus compute them, with the weights of a ConvNet of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import nn

if TYPE_CHECKING:
    from experiments.benchmarks.gradient_norm_cost import Case


def network(params: dict[str, Any]) -> nn.Sequential:
    """The ConvNet of `params`, with instance normalisation."""
    layers: list[nn.Module] = []
    for name in sorted(key for key in params if key.startswith("block")):
        kernel = torch.tensor(np.asarray(params[name]["conv"]["kernel"])).permute(3, 2, 0, 1)
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        normalise = nn.InstanceNorm2d(kernel.shape[0], affine=True)
        with torch.no_grad():
            conv.weight.copy_(kernel)
            conv.bias.copy_(torch.tensor(np.asarray(params[name]["conv"]["bias"])))
            normalise.weight.copy_(torch.tensor(np.asarray(params[name]["norm"]["scale"])))
            normalise.bias.copy_(torch.tensor(np.asarray(params[name]["norm"]["bias"])))
        layers += [conv, normalise, nn.ReLU(), nn.AvgPool2d(2)]
    channels, last = kernel.shape[0], torch.tensor(np.asarray(params["classifier"]["kernel"]))
    side = round((len(last) / channels) ** 0.5)
    dense = nn.Linear(len(last), last.shape[1])
    with torch.no_grad():  # from height, width, channels to channels, height, width
        rows = last.reshape(side, side, channels, -1).permute(2, 0, 1, 3).reshape(last.shape)
        dense.weight.copy_(rows.T)
        dense.bias.copy_(torch.tensor(np.asarray(params["classifier"]["bias"])))
    return nn.Sequential(*layers, nn.Flatten(), dense)


def sides(case: Case) -> dict[str, Callable[[], Any]]:
    """An ordinary gradient, and norms by torch.func and by opacus, ghost and fast."""
    model = network(case.variables["params"])
    images = torch.tensor(np.asarray(case.batch[0])).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(np.asarray(case.batch[1])).long()

    def gradient():
        model.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()

    params = {name: value.detach() for name, value in model.named_parameters()}

    def loss(params, image, label):
        logits = torch.func.functional_call(model, params, (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    per_example = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def functional():
        gradients = per_example(params, images, labels)
        squares = [g.flatten(1).square().sum(1) for g in gradients.values()]
        return torch.stack(squares).sum(0).sqrt().numpy()

    def opacus(ghost: bool) -> Callable[[], Any]:
        wrapped = GradSampleModuleFastGradientClipping(
            network(case.variables["params"]),
            loss_reduction="sum",
            max_grad_norm=1.0,
            use_ghost_clipping=ghost,
        )

        def norms():
            wrapped.zero_grad()
            nn.functional.cross_entropy(wrapped(images), labels, reduction="sum").backward()
            return wrapped.get_norm_sample().detach().numpy()

        return norms

    return {
        "torch gradient": gradient,
        "torch.func": functional,
        "opacus ghost": opacus(True),
        "opacus fast": opacus(False),
    }
