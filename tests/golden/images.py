"""Convolutions and max pooling of images, and a reduced-width VGGish stack of them, channels last: inputs, outputs and
gradients in f64."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from formula import set_weights, uniform
from layers import gradients

IMAGES_SALT, STACK_DY_SALT = 80, 81
CHANNELS = [4, 8, 16, 16, 32, 32]  # VGGish's 64 ... 512, divided by 16
POOLED = [0, 1, 3, 5]  # layers with a max pooling behind them


def channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def padded(x: Tensor, size: int, stride: int) -> Tensor:
    """Zeros around x (B, C, H, W), as TensorFlow's 'same' padding has them: of an odd number, one more at the end."""
    zeros = []
    for length in (x.shape[3], x.shape[2]):
        both = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
        zeros += [both // 2, both - both // 2]
    return F.pad(x, zeros)


def conv2d(
    shape: tuple[int, int, int, int],
    n: int,
    size: int,
    salt: int,
    relu: bool,
    bias: bool = True,
    stride: int = 1,
    depthwise: bool = False,
) -> dict[str, Tensor]:
    """x (B, H, W, C) to n channels, 'same' padding; no argument of the ReLU is within 1e-4 of its kink."""
    c = shape[3]
    x = uniform(shape, salt).requires_grad_()
    w = uniform((n, 1 if depthwise else c, size, size), salt + 1, -0.5, 0.5).requires_grad_()
    b = uniform((n,), salt + 2).requires_grad_() if bias else None
    groups = c if depthwise else 1
    y = channels_last(F.conv2d(padded(channels_first(x), size, stride), w, b, stride=stride, groups=groups))
    dy = uniform(tuple(y.shape), salt + 3)
    if relu:
        assert y.abs().min() > 1e-4
        y = F.relu(y)
    inputs = {"x": x, "w": w} | ({"b": b} if bias else {})
    return inputs | {"y": y, "dy": dy} | gradients(y, dy, **inputs)


def max_pool2d(shape: tuple[int, int, int, int], salt: int, up: bool) -> dict[str, Tensor]:
    """2 x 2, stride 2. One window has its largest value twice: the first gets the gradient."""
    x = uniform(shape, salt)
    x[0, 0, 1, 0] = x[0, 1, 0, 0] = 2
    x.requires_grad_()
    y = channels_last(F.max_pool2d(channels_first(x), 2, ceil_mode=up))
    dy = uniform(tuple(y.shape), salt + 1)
    return {"x": x, "y": y, "dy": dy} | gradients(y, dy, x=x)


def stack() -> dict[str, Tensor]:
    """Two patches of 96 x 64 through VGGish's convolutions at 1/16 of its width, formula weights (names 0.weight,
    0.bias, ...)."""
    sizes = zip([1, *CHANNELS], CHANNELS)
    layers = nn.ModuleList(nn.Conv2d(c, n, 3, padding="same") for c, n in sizes).double()
    set_weights(layers)
    x = uniform((2, 96, 64, 1), IMAGES_SALT)
    y = channels_first(x)
    for i, layer in enumerate(layers):
        y = F.relu(layer(y))
        if i in POOLED:
            y = F.max_pool2d(y, 2)
    y = channels_last(y)
    y.backward(uniform(tuple(y.shape), STACK_DY_SALT))
    return {"y": y} | {f"grad.{name}": parameter.grad for name, parameter in layers.named_parameters()}


def images() -> dict[str, Tensor]:
    """All tensors of `images.safetensors`, named `<case>.<tensor>`."""
    cases = {
        "conv3": conv2d((2, 5, 7, 3), 6, 3, 90, relu=False),
        "conv3_relu": conv2d((2, 6, 4, 4), 8, 3, 100, relu=True),
        "conv1_no_bias": conv2d((2, 3, 5, 8), 5, 1, 110, relu=False, bias=False),
        "conv5_relu": conv2d((1, 7, 6, 4), 4, 5, 120, relu=True),
        "conv3_stride": conv2d((2, 6, 5, 3), 8, 3, 170, relu=False, stride=2),
        "conv5_stride_relu": conv2d((1, 7, 8, 2), 4, 5, 180, relu=True, stride=2),
        "depthwise": conv2d((2, 5, 4, 8), 8, 3, 190, relu=False, depthwise=True),
        "depthwise_stride_relu": conv2d((2, 6, 5, 3), 3, 3, 200, relu=True, stride=2, depthwise=True),
        "pool_down": max_pool2d((2, 5, 7, 3), 130, up=False),
        "pool_up": max_pool2d((2, 5, 7, 4), 140, up=True),
        "vggish": stack(),
    }
    return {f"{case}.{name}": value for case, tensors in cases.items() for name, value in tensors.items()}
