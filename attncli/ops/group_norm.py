"""Group normalisation of feature maps, with the ReLU that follows it, trained faster on a CPU.

PyTorch's backward pass for bf16 maps in channels-last order takes ten times as long as its forward pass. The
gradient is written out here with the sums that its batch norm kernel computes:

    y = relu(x^ w + b),  x^ = (x - m) r          m, r: mean and 1 / deviation of an image's group of channels
    g = dy [y > 0],  b' = sum g,  w' = sum g x^    by image and channel, over all places
    dx = r w g - (r / n) (sum w b' + x^ sum w w')   sums over the channels of the group, n its values

Wu and He 2018, "Group Normalization", https://arxiv.org/abs/1803.08494; with as many groups as channels it is
instance normalisation (Ulyanov et al. 2016, https://arxiv.org/abs/1607.08022).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def group_norm(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float = 1e-5, relu: bool = False
) -> Tensor:
    """``x`` [B, C, H, W] normalised by groups of channels, scaled, shifted, and with ``relu`` cut at 0.

    ``weight``, ``bias`` [C]. The type of ``x`` stays; statistics are float32 or wider.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        with torch.autocast(x.device.type, enabled=False):
            y = F.group_norm(x, groups, weight.to(x.dtype), bias.to(x.dtype), epsilon)
        return y.relu_() if relu and not y.requires_grad else torch.relu(y) if relu else y
    return _GroupNorm.apply(
        x.contiguous(memory_format=torch.channels_last), weight, bias, groups, epsilon, relu
    )


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, relu: bool
    ) -> Tensor:
        batch, channels, height, width = x.shape
        y, mean, rate = torch.native_group_norm(
            x, weight, bias, batch, channels, height * width, groups, epsilon
        )  # mean, rate [B, G]
        if relu:
            y = y.relu_()
        ctx.groups, ctx.epsilon, ctx.relu = groups, epsilon, relu
        ctx.save_for_backward(x, weight, mean, rate, y if relu else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, weight, mean, rate, y = ctx.saved_tensors
        batch, channels, height, width = x.shape
        grad = grad.contiguous(memory_format=torch.channels_last)
        if y is not None:
            grad = torch.ops.aten.threshold_backward(grad, y, 0)
        each = channels // ctx.groups
        wide = weight.dtype
        mean = mean.to(wide).repeat_interleave(each, 1)  # [B, C]
        rate = rate.to(wide).repeat_interleave(each, 1)
        single = ctx.groups == channels
        sums_w, sums_b, parts = [], [], []
        for image in range(batch):
            dx, dw, db = torch.ops.aten.native_batch_norm_backward(
                grad[image : image + 1],
                x[image : image + 1],
                weight,
                None,
                None,
                mean[image],
                rate[image],
                True,
                ctx.epsilon,
                [single, True, True],
            )
            sums_w.append(dw)
            sums_b.append(db)
            parts.append(dx)
        w, b = torch.stack(sums_w), torch.stack(sums_b)  # [B, C]
        if single:
            dx = torch.cat(parts)
        else:
            share = rate / (each * height * width)
            of_x = -share * _over_group(weight * w, each) * rate  # [B, C]
            constant = -share * _over_group(weight * b, each) - of_x * mean
            dx = torch.addcmul(_maps(constant, x), x, _maps(of_x, x))
            dx.addcmul_(grad, _maps(rate * weight, x))
        return dx, w.sum(0), b.sum(0), None, None, None


def _over_group(values: Tensor, each: int) -> Tensor:
    """[B, C] summed over groups of ``each`` channels, at every channel of the group."""
    return values.unflatten(1, (-1, each)).sum(2).repeat_interleave(each, 1)


def _maps(values: Tensor, like: Tensor) -> Tensor:
    """[B, C] as [B, C, 1, 1] in the type of ``like``."""
    return values.to(like.dtype)[:, :, None, None]
