"""Gradient norms as torch.func and opacus compute them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import nn

from experiments.benchmarks.torch_convnet import network

if TYPE_CHECKING:
    from experiments.benchmarks.gradient_norm_cost import Case


def sides(case: Case) -> dict[str, Callable[[], Any]]:
    """An ordinary gradient, and norms by torch.func and by opacus, ghost and fast."""
    model = network(case.variables)
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
            network(case.variables).train(),  # in evaluation mode it records nothing
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
