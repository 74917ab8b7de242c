"""The layers of a hidden unit; each maps rows to rows and includes its activation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import (
    batch_norm,
    conv2d,
    gelu,
    layer_norm,
    leaky_relu,
    max_pool2d,
    pad,
    scaled_dot_product_attention,
    silu,
)

Activation = Callable[[Tensor], Tensor]
"""May work in place: nothing else uses its input afterwards."""

LEAK = 0.01
MOMENTUM = 0.1
"""Weight of a batch in batch normalisation's running statistics."""
EPSILON = 1e-5
"""Added to a variance before taking its square root."""
ACTIVATIONS: dict[str, Activation] = {
    "relu": torch.relu_,
    "leaky_relu": partial(leaky_relu, negative_slope=LEAK, inplace=True),  # a lambda could not be pickled
    "gelu": gelu,
    "silu": silu,
    "tanh": torch.tanh,
}


class Dense(nn.Module):
    """A fully connected layer; maps [rows, ...] to [rows, neurons]."""

    def __init__(self, inputs: int, neurons: int, activation: Activation, generator: Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(_glorot((neurons, inputs), generator))
        self.bias = nn.Parameter(torch.zeros(neurons))
        self.activation = activation

    def before(self, hidden: Tensor) -> Tensor:
        """The pre-activations, [rows, neurons]."""
        return nn.functional.linear(hidden.flatten(1), self.weight, self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """The layer's activations."""
        return self.activation(self.before(hidden))


class Convolution(nn.Module):
    """A convolution; maps [rows, inputs, height, width] to [rows, channels, new height, new width].

    Args:
        inputs: number of input channels.
        channels: number of output channels.
        kernel: height and width.
        stride: in both directions.
        zeros: rows or columns of zero padding above, below, left and right.
        batch_norm: normalise each channel over the batch before the activation.
        activation: applied after the convolution and the normalisation.
        generator: draws the weights.
    """

    def __init__(
        self,
        *,
        inputs: int,
        channels: int,
        kernel: tuple[int, int],
        stride: int,
        zeros: tuple[int, int, int, int],
        batch_norm: bool,
        activation: Activation,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(_glorot((channels, inputs, *kernel), generator))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = BatchNorm(channels) if batch_norm else None
        self.stride = stride
        self.zeros = zeros
        self.activation = activation

    def before(self, hidden: Tensor) -> Tensor:
        """The pre-activations, [rows, channels, height, width], batch normalisation included."""
        above, below, left, right = self.zeros
        padding = (above, left)
        if padding != (below, right):
            hidden, padding = pad(hidden, (left, right, above, below)), (0, 0)
        if self.norm is None:
            return conv2d(hidden, self.weight, self.bias, self.stride, padding)
        convolved: Tensor = self.norm(conv2d(hidden, self.weight, None, self.stride, padding), self.bias)
        return convolved

    def forward(self, hidden: Tensor) -> Tensor:
        """The layer's activations."""
        return self.activation(self.before(hidden))


class BatchNorm(nn.Module):
    """Batch normalisation of each channel with a learned gain; the bias belongs to the convolution.

    In training it uses the batch's mean and variance and updates their running averages; in evaluation it uses
    the running averages.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, before: Tensor, bias: Tensor) -> Tensor:
        """Normalise [rows, channels, height, width]."""
        batched = self.training and before.numel() > before.shape[1]  # a single value has no variance
        return batch_norm(before, self.mean, self.variance, self.gain, bias, batched, MOMENTUM, EPSILON)


class MaxPool(nn.Module):
    """Max pooling over squares; maps [rows, channels, height, width] to [rows, channels, height/size, width/size]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, hidden: Tensor) -> Tensor:
        """The maximum of each square."""
        return max_pool2d(hidden, self.size)


class Attention(nn.Module):
    """Self-attention over positions with a residual connection; the shape [rows, channels, height, width] is kept.

    A learned position embedding is added to the input first, and the attention's input is layer-normalised.

    Args:
        shape: channels, height and width.
        heads: number of heads; the channels are divided evenly among them.
        generator: draws the weights.
    """

    def __init__(self, shape: tuple[int, int, int], heads: int, generator: Generator) -> None:
        super().__init__()
        channels, height, width = shape
        self.heads = heads
        self.position = nn.Parameter(0.02 * torch.randn((height * width, channels), generator=generator))
        self.qkv_weight = nn.Parameter(_glorot((3 * channels, channels), generator))
        self.qkv_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_weight = nn.Parameter(_glorot((channels, channels), generator))
        self.out_bias = nn.Parameter(torch.zeros(channels))

    def forward(self, hidden: Tensor) -> Tensor:
        """The input with its position embedding, plus the attention output."""
        rows, channels, height, width = hidden.shape
        tokens = hidden.flatten(2).transpose(1, 2) + self.position  # [rows, positions, channels]
        qkv = nn.functional.linear(layer_norm(tokens, (channels,), eps=EPSILON), self.qkv_weight, self.qkv_bias)
        query, key, value = qkv.view(rows, -1, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value)  # [rows, heads, positions, channels of a head]
        taken = nn.functional.linear(mixed.transpose(1, 2).flatten(2), self.out_weight, self.out_bias)
        return (tokens + taken).transpose(1, 2).reshape(rows, channels, height, width)


Layer = Dense | Convolution | MaxPool | Attention


def linear(inputs: int, outputs: int, generator: Generator) -> nn.Linear:
    """A linear layer for a softmax classifier, initialised like every other layer: Glorot-uniform, zero biases."""
    # On the meta device: nn.Linear's own initialisation would draw from the caller's global random state.
    made = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        made.weight.copy_(_glorot((outputs, inputs), generator))
        made.bias.zero_()
    return made


def _glorot(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Glorot-uniform weights, the author's initialisation."""
    weight = torch.empty(shape)
    nn.init.xavier_uniform_(weight, generator=generator)
    return weight
