"""Convolutional models: a keyword spotter of separable convolutions."""

from __future__ import annotations

from . import Case, case, model


@model("keyword_spotter", (30, 98, 200))
def keyword_spotter() -> Case:
    """Depthwise-separable 2-D convolutions with batch norm, average pooling and a classifier (Zhang et al. 2017)."""
    import torch
    from torch import nn

    def separable(size: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(size, size, 3, padding=1, groups=size, bias=False), nn.BatchNorm2d(size), nn.ReLU(),
            nn.Conv2d(size, size, 1, bias=False), nn.BatchNorm2d(size), nn.ReLU(),
        )  # fmt: skip

    class KeywordSpotter(nn.Module):
        def __init__(self, size: int = 24):
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(1, size, (10, 4), stride=(2, 2), padding=(5, 1), bias=False), nn.BatchNorm2d(size), nn.ReLU()
            )
            self.blocks = nn.Sequential(separable(size), separable(size))
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.classify = nn.Linear(size, 12)

        def forward(self, mfcc):
            x = self.blocks(self.stem(mfcc[:, None]))
            return self.classify(self.pool(x).flatten(1)).softmax(-1)

    torch.manual_seed(0)
    return case(randomised(KeywordSpotter()), {"mfcc": (1, "T", 10)}, 1, 101)


@model("separable_tcn", (20, 64, 121))
def separable_tcn() -> Case:
    """Dilated separable 1-D convolutions with residuals, weight norm, and a transposed convolution at the end."""
    import torch
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm

    class Block(nn.Module):
        def __init__(self, size: int, dilation: int):
            super().__init__()
            self.depthwise = nn.Conv1d(size, size, 5, padding=2 * dilation, dilation=dilation, groups=size)
            self.pointwise = weight_norm(nn.Conv1d(size, size, 1))
            self.norm = nn.GroupNorm(1, size)
            self.act = nn.PReLU()

        def forward(self, x):
            return x + self.pointwise(self.norm(self.act(self.depthwise(x))))

    class Tcn(nn.Module):
        def __init__(self, size: int = 16):
            super().__init__()
            self.encode = nn.Conv1d(8, size, 3, padding="same")
            self.blocks = nn.Sequential(*(Block(size, 2**i) for i in range(3)))
            self.decode = nn.ConvTranspose1d(size, 4, 4, stride=2, padding=1)

        def forward(self, x):
            return self.decode(torch.nn.functional.max_pool1d(self.blocks(self.encode(x)), 3, 1, 1))

    torch.manual_seed(0)
    return case(randomised(Tcn()), {"x": (1, 8, "T")}, 2, 50)


def randomised(module):
    """The module with random batch norm statistics, so that folding them wrongly shows."""
    import torch

    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.2 * torch.randn_like(buffer))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand_like(buffer))
    return module
