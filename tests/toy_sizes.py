"""Networks whose sizes are searched, as people write them, for tests of several sizes at once."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional as F

import mutandis as mu
from mutandis.models.nats import SizeNetwork
from mutandis.models.resnet import resnet_program


class Basic(nn.Module):
    """A residual block; the shortcut is a convolution where the width changes."""

    def __init__(self, inputs, width, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.short = nn.Conv2d(inputs, width, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.short(x))


@mu.symbolize
class ResNet(nn.Module):
    """Two stages, in each of which one width is read by many layers; the depth of the second is searched too."""

    def __init__(self, first, second, depth=2, num_classes=3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU(inplace=True))
        self.stage1 = nn.Sequential(Basic(first, first), Basic(first, first))
        self.down = Basic(first, second, 2)
        self.stage2 = nn.Sequential(*[Basic(second, second) for _ in range(depth)])
        self.head = nn.Linear(second, num_classes)

    def forward(self, x):
        return self.head(self.stage2(self.down(self.stage1(self.stem(x)))).mean((2, 3)))


class Inverted(nn.Module):
    """An inverted residual with squeeze and excitation (Howard et al. 2019, arXiv 1905.02244)."""

    def __init__(self, width, expansion, kernel):
        super().__init__()
        hidden = int(width * expansion)
        self.widen = nn.Sequential(nn.Conv2d(width, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6())
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.squeeze = nn.Linear(hidden, hidden // 2)
        self.excite = nn.Linear(hidden // 2, hidden)
        self.narrow = nn.Sequential(nn.Conv2d(hidden, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = F.relu6(self.norm(self.depthwise(self.widen(x))))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3))))))
        return x + self.narrow(y * gate[:, :, None, None])


@mu.symbolize
class MobileNet(nn.Module):
    """Widths, expansions and kernels; the last layer reads a flattened image, and dropout stands before it."""

    def __init__(self, width, expansion, kernel, size=4, num_classes=3):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, padding=1)
        self.blocks = nn.Sequential(Inverted(width, expansion, kernel), Inverted(width, 2, 3))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(width * size * size, num_classes)

    def forward(self, x):
        return self.head(self.dropout(self.blocks(self.stem(x)).flatten(1)))


@mu.symbolize
class Branches(nn.Module):
    """Two branches side by side, of which one is searched or both, and a transposed convolution behind them."""

    def __init__(self, first, second):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, first, 3, padding=1), nn.Conv2d(3, second, 1)
        self.norm = nn.BatchNorm2d(first + second)
        self.up = nn.ConvTranspose2d(first + second, 4, 2, stride=2)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(F.relu(self.up(F.relu(self.norm(torch.cat([self.a(x), self.b(x)], 1))))).mean((2, 3)))


@mu.symbolize
class Arms(nn.Module):
    """A choice of operations at a width that is searched, and a width inside one of them."""

    def __init__(self, width, operation):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.operation = operation
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.operation(self.stem(x)).mean((2, 3)))


def images(batch=3, size=8):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def size_network(candidates=(4, 8, 6)):
    """NATS-Bench's network; widths of a cell are tied, since its skip connections are other layers else."""
    a, b, c = (mu.oneof(list(candidates), name=f"width {i}") for i in range(3))
    return SizeNetwork([a, b, b, c, c], num_classes=3)


def resnet():
    return ResNet(mu.oneof([4, 6, 2], name="first"), mu.oneof([8, 4], name="second"),
                  mu.oneof([1, 2, 3], name="depth"))  # fmt: skip


def mobilenet():
    return MobileNet(mu.oneof([4, 8, 6], name="width"), mu.oneof([2, 1, 1.5], name="expansion"),
                     mu.oneof([3, 5], name="kernel"))  # fmt: skip


def branches():
    return Branches(mu.oneof([4, 2, 3], name="first"), mu.oneof([2, 3], name="second"))


def arms():
    width = mu.oneof([4, 8], name="width")
    hidden = mu.oneof([2, 6], name="hidden")
    inner = mu.nn.Sequential(mu.nn.Conv2d(width, hidden, 1), mu.nn.ReLU(), mu.nn.Conv2d(hidden, width, 1))
    return Arms(width, mu.oneof([inner, mu.nn.Conv2d(width, width, 3, padding=1), mu.nn.Identity()], name="operation"))


def layers(shortcut="always"):
    """Every layer decides its width, and every stage its depth."""
    return resnet_program(14, base=4, ratios=(0.5, 1.0), num_classes=3, shortcut=shortcut)


def kinds():
    """The same, with shortcuts that are projections only where neighbours differ."""
    return layers("projection")


PROGRAMS = {"sizes": size_network, "resnet": resnet, "mobilenet": mobilenet, "branches": branches, "arms": arms,
            "layers": layers, "kinds": kinds}  # fmt: skip


@functools.cache
def _made_once(name):
    positions = "leading" if name == "kinds" else "proven"
    shared = mu.share_weights(PROGRAMS[name](), images().float(), positions=positions)
    shared.module.double()
    return shared, {key: tensor.clone() for key, tensor in shared.module.state_dict().items()}


def shared_of(name):
    """Returns a program with shared weights in float64, made once: the same object, with its initial weights."""
    shared, weights = _made_once(name)
    shared.module.load_state_dict(weights)
    shared.module.zero_grad()
    return shared


def numbers(shared):
    """Returns the decisions for sizes."""
    return [p for p in shared.points if all(isinstance(c, (int, float)) for c in p.candidates)]


def trained(live):
    """Lets norms use the batch, and dropout nothing."""
    for module in live.modules():
        module.training = not isinstance(module, nn.Dropout)
    return live


def passed(live, batch=None):
    """Runs a forward and a backward pass, and returns the output; outputs weigh differently."""
    output = trained(live)(images() if batch is None else batch)
    (output * torch.linspace(-1, 2, output.numel(), dtype=output.dtype).reshape(output.shape)).sum().backward()
    return output.detach()


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)
