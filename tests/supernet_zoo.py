"""Programs whose weights are shared in the tests: ordinary code, and each kind of decision in it."""

from __future__ import annotations

import functools
import math

import torch
from torch import nn
from torch.nn import functional as F

import mutandis as mu


@mu.symbolize
class ResidualBlock(nn.Module):
    """A bottleneck with a depthwise convolution; the sizes are computed as people compute them."""

    def __init__(self, channels, expansion, kernel=3):
        super().__init__()
        hidden = int(channels * expansion + 0.5)
        self.widen = nn.Conv2d(channels, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
        self.norm = nn.BatchNorm2d(hidden)
        self.narrow = nn.Conv2d(hidden, channels, 1)
        self.scale = 1 / math.sqrt(hidden)

    def forward(self, x):
        return x + self.narrow(F.relu(self.norm(self.depthwise(self.widen(x))))) * self.scale


@mu.symbolize
class Residual(nn.Module):
    def __init__(self, width, expansion, kernel):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.block = ResidualBlock(width, expansion, kernel)
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean((2, 3)))


@mu.symbolize
class Deep(nn.Module):
    def __init__(self, depth, width=6):
        super().__init__()
        self.stem = nn.Linear(4, width)
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.head(x)


@mu.symbolize
class Stages(nn.Module):
    """Two stages in one flat list: a smaller depth puts other blocks at the same places."""

    def __init__(self, depth):
        super().__init__()
        layers = [nn.Linear(4, 4) for _ in range(depth)] + [nn.Linear(4, 6)] + [nn.Linear(6, 6) for _ in range(depth)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


@mu.symbolize
class Concat(nn.Module):
    """Two branches side by side: the weights of the second stand at other places when the first shrinks."""

    def __init__(self, first, second):
        super().__init__()
        self.a = nn.Conv2d(3, first, 3, padding=1)
        self.b = nn.Conv2d(3, second, 1)
        self.norm = nn.BatchNorm2d(first + second)
        self.out = nn.Conv2d(first + second, 4, 1)

    def forward(self, x):
        return self.out(F.relu(self.norm(torch.cat([self.a(x), self.b(x)], 1))))


@mu.symbolize
class Attention(nn.Module):
    """Hand-written attention with a packed projection."""

    def __init__(self, width, heads):
        super().__init__()
        self.width, self.heads = width, heads
        self.embed = nn.Linear(8, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, time, _ = x.shape
        q, k, v = (
            self.qkv(self.embed(x)).view(batch, time, 3, self.heads, self.width // self.heads).permute(2, 0, 3, 1, 4)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(batch, time, self.width))


@mu.symbolize
class Layer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


@mu.symbolize
class Transformer(nn.Module):
    """Width, heads, depth, feed-forward; learned positions, and an output that is tied to the input."""

    def __init__(self, width, heads, depth, hidden, vocabulary=11, length=7):
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(torch.zeros(1, length, width))
        self.layers = nn.ModuleList([Layer(width, heads, hidden) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.token.weight
        self.register_buffer("wave", torch.sin(torch.arange(width) / width))

    def forward(self, tokens):
        x = self.token(tokens) + self.place[:, : tokens.shape[1]] + self.wave
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


@mu.symbolize
class LanguageModel(nn.Module):
    def __init__(self, width, hidden, cell="LSTM", dropout=0.1):
        super().__init__()
        self.token = nn.Embedding(11, width)
        self.rnn = getattr(nn, cell)(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, 11)

    def forward(self, tokens):
        return self.head(self.dropout(self.rnn(self.token(tokens))[0]))


@mu.symbolize
class OneDimension(nn.Module):
    """Convolutions of one and three dimensions, a transposed one, and norms over groups and instances."""

    def __init__(self, width, groups):
        super().__init__()
        self.first = nn.Conv1d(2, width, 3, padding=1)
        self.group = nn.GroupNorm(groups, width)
        self.instance = nn.InstanceNorm1d(width, affine=True)
        self.up = nn.ConvTranspose1d(width, width // 2, 2, stride=2)
        self.deep = nn.Conv3d(1, width, (1, 1, 3), padding=(0, 0, 1))
        self.last = nn.Conv1d(width // 2, 2, 1)

    def forward(self, x):
        y = self.last(self.up(self.instance(self.group(self.first(x)))))
        return y, self.deep(x[:, None, :1, None]).mean((1, 2))


@mu.symbolize
class Switching(nn.Module):
    """What Python code does with a number beside passing it on."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(4, width)
        if width > 16:
            self.extra = nn.Linear(width, width)
        self.bits = int(math.log2(width))
        self.scale = lambda x: x / width
        self.config = {"half": width // 2, "names": (f"w{width}",)}
        self.last = nn.Linear(max(width, 16) - max(width, 16) + width, 2)

    def forward(self, x):
        x = self.scale(self.first(x)) * self.bits + self.config["half"]
        return self.last(self.extra(x) if hasattr(self, "extra") else x)


@mu.symbolize
class Trainer:
    """A program around a module."""

    def __init__(self, model, rate, steps=2):
        self.model, self.rate, self.steps = model, rate, steps

    def run(self):
        optimizer = torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad and p.is_leaf], self.rate)
        x = torch.ones(3, 4)
        for _ in range(self.steps):
            optimizer.zero_grad()
            self.model(x).square().mean().backward()
            optimizer.step()
        return -float(self.model(x).detach().square().mean())


def images(batch=2, channels=3, size=8):
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(0))


def tokens(batch=2, length=5):
    return torch.randint(0, 11, (batch, length), generator=torch.Generator().manual_seed(0))


def features(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@functools.cache
def programs():
    """Returns (program, batch) by name; the programs are abstract and may be used any number of times."""
    conv = functools.partial(mu.nn.Conv2d, 6, 6, padding=1)
    width = mu.oneof([4, 8, 6])
    return {
        "residual": (Residual(mu.oneof([4, 8]), mu.oneof([1.5, 2.0, 1.0]), mu.oneof([3, 5])), images()),
        "arms": (
            mu.nn.Sequential(
                mu.nn.Conv2d(3, 6, 1),
                mu.oneof([conv(3), mu.nn.Sequential(mu.nn.ReLU(), mu.nn.Conv2d(6, 6, 1)), mu.nn.Identity()]),
                mu.oneof([mu.nn.ReLU(), mu.nn.GELU()]),
                mu.nn.BatchNorm2d(6),
            ),
            images(),
        ),
        "widths of layers": (
            mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.ReLU(), mu.nn.Linear(width, width * 2), mu.nn.Tanh()),
            features(3, 4),
        ),
        "conditional": (
            mu.nn.Sequential(
                mu.nn.Linear(4, 6),
                mu.oneof(
                    [mu.nn.Identity(), mu.nn.Sequential(mu.nn.Linear(6, (w := mu.oneof([2, 4]))), mu.nn.Linear(w, 6))]
                ),
            ),
            features(3, 4),
        ),
        "deep": (Deep(mu.oneof([1, 2, 3])), features(3, 4)),
        "concat": (Concat(mu.oneof([4, 2, 3]), mu.oneof([2, 3])), images()),
        "attention": (Attention(mu.oneof([8, 16, 12]), mu.oneof([2, 4])), features(2, 5, 8)),
        "transformer": (
            Transformer(mu.oneof([8, 12, 16]), mu.oneof([1, 2, 4]), mu.oneof([1, 2, 3]), mu.oneof([8, 20])),
            tokens(),
        ),
        "lstm": (LanguageModel(mu.oneof([4, 6]), mu.oneof([4, 8, 6]), "LSTM", mu.floatv(0.0, 0.5)), tokens()),
        "gru": (LanguageModel(mu.oneof([4, 6]), mu.oneof([4, 8, 6]), mu.oneof(["GRU", "RNN"])), tokens()),
        "one dimension": (OneDimension(mu.oneof([4, 8]), mu.oneof([1, 2])), features(3, 2, 6)),
        "switching": (Switching(mu.oneof([8, 16, 32])), features(3, 4)),
    }


NAMES = tuple(programs())


class Skip(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)
        self.is_skip = inputs == outputs

    def forward(self, x):
        return x + self.conv(x) if self.is_skip else self.conv(x)


@mu.symbolize
class Skips(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.stem = nn.Conv2d(3, first, 1)
        self.skip = Skip(first, second)
        self.head = nn.Conv2d(second, 2, 1)

    def forward(self, x):
        return self.head(self.skip(self.stem(x)))


@mu.symbolize
class Rearranged(nn.Module):
    """A layer whose output another one reads in an order of its own."""

    def __init__(self, width, how, factor=1, size=16):
        super().__init__()
        self.how = how
        self.first = nn.Conv2d(3, width * factor, 1)
        self.last = nn.Linear(width * size, 2)

    def forward(self, x):
        return self.last(getattr(self, self.how)(self.first(x)).flatten(1))

    @staticmethod
    def flat(y):
        return y

    @staticmethod
    def channels_last(y):
        return y.permute(0, 2, 3, 1)

    @staticmethod
    def gated(y):
        return F.glu(y, 1)

    @staticmethod
    def packed(y):
        a, b, c = y.chunk(3, 1)
        return a + torch.sigmoid(b) * c

    @staticmethod
    def shuffled(y):
        batch, channels, *rest = y.shape
        return y.view(batch, 2, channels // 2, *rest).transpose(1, 2).reshape(batch, channels, *rest)

    @staticmethod
    def mixed(y):
        return torch.softmax(y, 1)

    @staticmethod
    def doubled(y):
        return torch.cat([y, y], 1)[:, : y.shape[1]]


@mu.symbolize
class Shrinking(nn.Module):
    """A larger number makes a smaller layer."""

    def __init__(self, divisor):
        super().__init__()
        self.first = nn.Linear(4, 16 // divisor)
        self.last = nn.Linear(16 // divisor, 2)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))
