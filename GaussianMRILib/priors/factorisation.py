"""Factorise the kernels of a trained prior network: a third of the multiplications for nearly the same answer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .network import RANKS, FactorisedConvolution, FactorisedNetwork, SliceNetwork
from .patches import Batch


def factorised(
    network: SliceNetwork, batches: Sequence[Batch], ranks: tuple[int, ...] = RANKS
) -> FactorisedNetwork:
    """The factorised network that is nearest to a full one on these batches.

    A kernel of 3x3x3, as a matrix from what is around a pixel in one slice to (channel, slice above, same, below), is
    cut down to its rank where it matters: at the inputs that really occur, whose covariance weights the singular value
    decomposition. Layer after layer, the second factor is then fitted by least squares to what the full network has
    there, so that it makes up for what the layers before it have lost.
    """
    result = FactorisedNetwork(network.channels, network.basis, *ranks)
    result.ratio_range = network.ratio_range
    for name in ("entry", "condition", "exit"):
        getattr(result, name).load_state_dict(getattr(network, name).state_dict())
    slices = torch.cat([batch.slices for batch in batches])
    shift = network.condition(torch.cat([batch.condition for batch in batches]))
    shift = shift.reshape(-1, network.blocks, network.channels, 1, 1, 1)
    with torch.no_grad():
        x = own = network.entry(slices - 0.4)
        for n in range(network.blocks):
            wanted = network.first[n](x)
            hidden = torch.relu(wanted + shift[:, n])
            own_hidden = torch.relu(_factorise(network.first[n], result.first[n], own, wanted) + shift[:, n])
            x = x + network.second[n](hidden)
            own = own + _factorise(network.second[n], result.second[n], own_hidden, x - own)
        _refit(result.exit, torch.relu(own), network.exit(torch.relu(x)))
    return result


def _factorise(
    layer: nn.Module, factors: nn.Module, inputs: torch.Tensor, wanted: torch.Tensor
) -> torch.Tensor:
    """Set `factors` so that they make of `inputs` what is `wanted` of them; what they make, (B, C, K, rows, columns)."""
    assert isinstance(layer, nn.Conv3d) and isinstance(factors, FactorisedConvolution)
    outer, inner = layer.weight.shape[:2]
    rank = factors.within.weight.shape[0]
    rows, columns = inputs.shape[3] - 2, inputs.shape[4] - 2
    # (samples, inner * 9): every third pixel is enough of them
    around = torch.stack(
        [inputs[..., y : y + rows : 3, x : x + columns : 3] for y in range(3) for x in range(3)], dim=2
    )
    around = around.permute(0, 3, 4, 5, 1, 2).reshape(-1, inner * 9)
    values, vectors = torch.linalg.eigh((around.T @ around / len(around)).double())
    scale = values.clamp(min=1e-6 * float(values.max())).sqrt()
    matrix = layer.weight.double().permute(0, 2, 1, 3, 4).reshape(outer * 3, inner * 9)
    left, singular, right = torch.linalg.svd(matrix @ vectors * scale, full_matrices=False)
    across = left[:, :rank] * singular[:rank].sqrt()
    within = (singular[:rank].sqrt()[:, None] * right[:rank]) / scale @ vectors.T
    # Both factors as large as each other, as an optimiser of one rate wants them.
    balance = (across.norm() / within.norm()).sqrt()
    factors.within.weight.copy_((within * balance).reshape(rank, inner, 3, 3))
    factors.across.weight.copy_((across / balance).reshape(outer, 3, rank).permute(0, 2, 1)[..., None])
    assert factors.across.bias is not None and layer.bias is not None
    factors.across.bias.copy_(layer.bias)
    seen = factors.within(inputs.permute(0, 2, 1, 3, 4).flatten(0, 1)).unflatten(0, (len(inputs), -1))
    _refit(factors.across, seen.transpose(1, 2), wanted)
    return factors(inputs.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


def _refit(target: nn.Module, inputs: torch.Tensor, wanted: torch.Tensor) -> None:
    """Least squares for kernel and bias of `target`, staying near what they are: from inputs to `wanted`.

    Args:
        inputs, wanted: (B, channels, K, rows, columns).
    """
    assert isinstance(target, (nn.Conv2d, nn.Conv3d)) and target.bias is not None
    kernel = target.weight if isinstance(target, nn.Conv3d) else target.weight[..., None]
    outer, inner, tall, high, wide = kernel.shape
    padded = nn.functional.pad(inputs, (wide // 2,) * 2 + (high // 2,) * 2 + (tall // 2,) * 2)
    count, rows, columns = inputs.shape[2:]
    stride = 1 if high == 1 else 2  # of pixels: large kernels have many taps, and samples enough
    taps = [
        padded[:, :, k : k + count, y : y + rows : stride, x : x + columns : stride]
        for k in range(tall)
        for y in range(high)
        for x in range(wide)
    ]
    features = torch.stack(taps, dim=2).permute(0, 3, 4, 5, 1, 2).reshape(-1, inner * len(taps))
    features = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float32)], dim=1)
    values = wanted[..., ::stride, ::stride].permute(0, 2, 3, 4, 1).reshape(-1, outer)
    now = torch.cat([kernel.reshape(outer, -1), target.bias[:, None]], dim=1).T
    gram = (features.T @ features).double()
    right = (features.T @ (values - features @ now)).double()
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    now = now + torch.linalg.solve(gram + ridge, right).float()
    target.weight.copy_(now[:-1].T.reshape(target.weight.shape))
    target.bias.copy_(now[-1])
