"""The small presets' backbone: ResNet-18 with the stem of timm's `resnet10t`, at half its width and with group norms.

Parameter names are timm's. Written out because importing timm, torchvision and with them PyTorch's compiler takes
longer than a prediction. Dense 3x3 convolutions are what a CPU trains fastest per unit of accuracy.
"""

from torch import Tensor, nn
from torch.nn import functional as F

STEM = 12, 16, 32
WIDTHS = 32, 64, 128, 192  # at strides 4, 8, 16, 32
BLOCKS = 2  # at each of them
CHANNELS_PER_GROUP = 16


class HalfResNet18t(nn.Module):
    """(B, 3, H, W) -> four feature maps, of `WIDTHS` channels."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = STEM
        self.conv1 = nn.Sequential(
            *(_conv3(3, first, stride=2), group_norm(first), nn.ReLU()),
            *(_conv3(first, second), group_norm(second), nn.ReLU()),
            _conv3(second, third),
        )
        self.bn1 = group_norm(third)
        inputs = (third, *WIDTHS)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(
                BasicBlock(wide, narrow, stride=2 if number else 1),
                *(BasicBlock(narrow, narrow) for _ in range(BLOCKS - 1)),
            )
            for number, (wide, narrow) in enumerate(zip(inputs, WIDTHS, strict=False))
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                nn.init.zeros_(module.bn2.weight)  # every block begins as its shortcut

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        stages = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            stages.append(x)
        return stages


class BasicBlock(nn.Module):
    """He et al. 2016; where it halves the sides, the shortcut takes means of 2 x 2 (He et al. 2019, ResNet-D)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv3(inputs, outputs, stride)
        self.bn1 = group_norm(outputs)
        self.conv2 = _conv3(outputs, outputs)
        self.bn2 = group_norm(outputs)
        self.downsample = None
        if stride > 1:
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            self.downsample = nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False), group_norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def group_norm(channels: int) -> nn.GroupNorm:
    """In place of a batch norm, so that results do not depend on how a batch is split."""
    return nn.GroupNorm(max(1, channels // CHANNELS_PER_GROUP), channels)


def _conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
