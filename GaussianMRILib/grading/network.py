"""The network that grades: a ResNet18 for every slice, a transformer over the slices.

Source: "Rendering Novel Views of MRI using 3D Gaussian Splatting", section 4.1 and Fig. 8, after Park et al. 2025. ResNet18
is MONAI's.
"""

from __future__ import annotations

import contextlib
import copy
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from ..device import multiplies_bfloat16
from ..errors import GaussianMRIError
from ..tensor_files import without_values
from .labels import GRADES
from .options import NetworkOptions


class GradingNetwork(nn.Module):
    """Grades of one condition on one side from the slices of a region of interest.

    Every slice goes through the same ResNet18; a learned position is added, a learned CLS token put before the slices,
    and what the transformer encoder makes of that token goes through a linear layer. Slices that do not exist are
    neither encoded nor attended to, so that whatever lies in them changes nothing.
    """

    def __init__(self, options: NetworkOptions | None = None) -> None:
        super().__init__()
        self.options = options or NetworkOptions()
        o = self.options
        self.encoder = _resnet18(o.widen)
        self.positions = nn.Parameter(torch.empty(o.slices, o.features, dtype=torch.float32))
        self.cls = nn.Parameter(torch.empty(o.features, dtype=torch.float32))
        for parameter in (self.positions, self.cls):
            nn.init.trunc_normal_(parameter, std=0.02)
        layer = nn.TransformerEncoderLayer(o.features, o.heads, o.feed_forward, o.dropout, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, o.layers, enable_nested_tensor=False)
        self.head = nn.Linear(o.features, len(GRADES))
        self.float()  # whatever the default is

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, 3) of images (B, S, H, W) of 0 to 1; mask (B, S) says which slices exist."""
        return self.classify(self.encode(images, mask), mask)

    def encode(self, images: Tensor, mask: Tensor, batch: int | None = None) -> Tensor:
        """Features (B, S, F) of images (B, S, H, W); 0 for slices that do not exist.

        Args:
            batch: slices that are encoded at a time, None for all.
        """
        # Only those that exist: others would spoil the statistics of batch normalisation.
        slices = images[mask][:, None]  # (M, 1, H, W)
        parts = [self.encoder(part).float() for part in slices.split(batch or max(1, len(slices)))]
        features = parts[0].new_zeros(*mask.shape, self.options.features)
        features[mask] = torch.cat(parts)
        return features

    def classify(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, 3) of features (B, S, F) and mask (B, S)."""
        tokens = torch.cat([self.cls.expand(len(features), 1, -1), features + self.positions], dim=1)
        ignored = torch.cat([mask.new_zeros(len(mask), 1), ~mask], dim=1)
        return self.head(self.transformer(tokens, src_key_padding_mask=ignored)[:, 0])


def _resnet18(widen: float) -> nn.Module:
    try:
        from monai.networks.nets import resnet18
    except ImportError as error:
        raise GaussianMRIError(
            'Grading needs the Python package MONAI; install it with `pip install "gaussianmri[grading]"`.'
        ) from error
    network: nn.Module = resnet18(
        spatial_dims=2,
        n_input_channels=1,
        conv1_t_stride=2,
        bias_downsample=False,
        feed_forward=False,
        widen_factor=widen,
    )
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1) and child.stride != (1, 1):
                setattr(module, name, StridedPointwise.of(child))
    return network


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution with a stride, as one without on every n-th pixel: the same numbers from the same weights.

    oneDNN's gradient of the weights of the strided one (`jit_1x1:avx2` and `jit_1x1:avx512_core`, images channels last)
    copies every n-th pixel into a workspace that is too small where the channels are fewer than the processor's vectors
    hold, 8 or 16: threads then write over each other's part, so that the gradient is wrong, differs from run to run, or
    the process ends. It is so in 3.12, and known there as issue 6035. Without a stride that copy is not made.
    """

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> StridedPointwise:
        """With the parameters (the same objects, under the same names) of `convolution`, a 1x1 one without padding."""
        rows, columns = convolution.stride
        channels = convolution.in_channels, convolution.out_channels
        with without_values():
            made = cls(*channels, 1, (rows, columns), bias=convolution.bias is not None)
        made.weight, made.bias = convolution.weight, convolution.bias
        return made

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.stride
        return nn.functional.conv2d(input[:, :, ::rows, ::columns], self.weight, self.bias)


def for_inference(network: GradingNetwork) -> GradingNetwork:
    """A copy in evaluation mode, every batch normalisation folded into the convolution before it, channels last."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    folded = copy.deepcopy(network).eval().requires_grad_(False)

    def fold(owner: Any, convolution: str, norm: str) -> None:
        fused = fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm))
        setattr(owner, convolution, fused)
        setattr(owner, norm, nn.Identity())

    for module in list(folded.encoder.modules()):
        for n in ("1", "2"):
            if isinstance(getattr(module, "bn" + n, None), nn.BatchNorm2d):
                fold(module, "conv" + n, "bn" + n)
        if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[1], nn.BatchNorm2d):
            fold(module, "0", "1")
    encoder: Any = folded.encoder.requires_grad_(False)
    encoder.to(memory_format=torch.channels_last)  # up to three times as fast, see the benchmark of grading
    return folded


def mixed_precision(device: torch.device, precision: str = "auto") -> AbstractContextManager[Any]:
    """Context in which matrix products run in bfloat16: "bfloat16", "float32", or "auto", where hardware multiplies it."""
    wanted = precision == "bfloat16" or (precision == "auto" and multiplies_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16) if wanted else contextlib.nullcontext()
