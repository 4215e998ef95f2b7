"""A ConvNet of ours in PyTorch, for the peers to work on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn


def network(variables: dict[str, Any]) -> nn.Sequential:
    """The ConvNet of `variables` in evaluation mode, with instance or batch normalisation."""
    params, stats = variables["params"], variables.get("batch_stats")
    layers: list[nn.Module] = []
    for name in sorted(key for key in params if key.startswith("block")):
        block = params[name]
        kernel = tensor(block["conv"]["kernel"]).permute(3, 2, 0, 1)
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        kind = nn.BatchNorm2d if stats else nn.InstanceNorm2d
        normalise = kind(kernel.shape[0], affine=True)
        values: list[tuple[Any, torch.Tensor]] = [
            (conv.weight, kernel),
            (conv.bias, tensor(block["conv"]["bias"])),
        ]
        values += [(normalise.weight, tensor(block["norm"]["scale"]))]
        values += [(normalise.bias, tensor(block["norm"]["bias"]))]
        if stats:
            values += [(normalise.running_mean, tensor(stats[name]["norm"]["mean"]))]
            values += [(normalise.running_var, tensor(stats[name]["norm"]["var"]))]
        fill(values)
        layers += [conv, normalise, nn.ReLU(), nn.AvgPool2d(2)]
    channels, last = kernel.shape[0], tensor(params["classifier"]["kernel"])
    side = round((len(last) / channels) ** 0.5)
    dense = nn.Linear(len(last), last.shape[1])
    # From height, width, channels to channels, height, width.
    rows = last.reshape(side, side, channels, -1).permute(2, 0, 1, 3).reshape(last.shape)
    fill([(dense.weight, rows.T), (dense.bias, tensor(params["classifier"]["bias"]))])
    return nn.Sequential(*layers, nn.Flatten(), dense).eval()


def tensor(array: Any) -> torch.Tensor:
    """A copy in torch."""
    return torch.tensor(np.asarray(array))


def fill(values: list[tuple[Any, torch.Tensor]]) -> None:
    """Write each second tensor into the first."""
    with torch.no_grad():
        for there, value in values:
            there.copy_(value)
