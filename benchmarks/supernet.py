"""What a training step with shared weights costs, beside the plain child and beside supernets written by hand.

    python benchmarks/supernet.py [--batch 64 --image 32] [--cells 1] [--reps 9] [--json out.json]
    python benchmarks/supernet.py --batch 4 --image 8       # the overhead shows where layers are small

The network is NATS-Bench's; one step is forward, loss, backward and SGD with momentum. Runners are interleaved in
random order, so that the drift of a machine hits all alike; a ratio is the geometric mean over architectures of the
median over repetitions. FLOPs (forward and backward) and bytes that are saved for backward are counted, not timed.

  shared            mu.share_weights, switched to the architecture before each step
  shared, widths    the same for the space of widths, against a child of these widths
  guarded, widths   the same with `shared.guard(optimizer)`, as mu.one_shot trains
  shared, slices    ResNet-20 at three quarters of its widths, 12, 24, 48 of 16, 32, 64 (He et al. 2016, arXiv
                    1512.03385), against a child of these widths
  guarded, slices   the same with a guard
  slices by hand    a ResNet-20 that runs slices of its weights (Yu et al. 2019, arXiv 1812.08928)
  shared, masks     all widths at once as masks (Wan et al. 2020, arXiv 2004.05565), against the widest child
  masks by hand     the widest child with a mask behind each cell
  shared, gates     the same with a straight-through weight at every edge, and its gradient
  shared, mixture   the same with all operations of every edge at once, weighted
  single by hand    a supernet that runs the chosen operation of each edge (Guo et al. 2020, arXiv 1904.00420)
  gates by hand     the same times a straight-through weight (Dong and Yang 2019, arXiv 1910.04465)
  mixture by hand   a supernet that runs all of them, weighted (Liu et al. 2019, arXiv 1806.09055)
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import mutandis as mu
from mutandis.flows.supernet import Mixture, Subset
from mutandis.hyper import Rng
from mutandis.models.nats import EDGES, OPERATIONS, WIDTHS, Operation, size_program, topology_program
from mutandis.models.nats.networks import Cell
from mutandis.models.resnet import CifarResNet, full_widths, resnet_program
from mutandis.models.resnet.networks import Projection

BEST = (3, 3, 2, 1, 3, 3)
"""The best cell of CIFAR-10, as indices into `OPERATIONS`."""


Choose = Callable[[Sequence[int]], nn.Module | AbstractContextManager[Any]]
Ratios = dict[str, dict[str, list[float]]]


class HandCell(nn.Module):
    """All operations of all edges; runs those of `arch`, times a weight with `gates`, or all of them weighted."""

    arch: Sequence[int] = ()
    weights: torch.Tensor | None = None
    gates: torch.Tensor | None = None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(nn.ModuleList(Operation(n)(channels, channels) for n in OPERATIONS) for _ in EDGES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x]
        for node in range(1, 4):
            parts = [self._edge(e, nodes[source]) for e, (source, end) in enumerate(EDGES) if end == node]
            nodes.append(torch.stack(parts).sum(0) if len(parts) > 1 else parts[0])
        return nodes[-1]

    def _edge(self, edge: int, x: torch.Tensor) -> torch.Tensor:
        if self.gates is not None:
            gates, index = self.gates[edge], self.arch[edge]
            gated: torch.Tensor = gates[index] * self.edges[edge][index](x) + (gates.sum() - gates[index])
            return gated
        if self.weights is None:
            result: torch.Tensor = self.edges[edge][self.arch[edge]](x)
            return result
        return sum(w * operation(x) for w, operation in zip(self.weights[edge], self.edges[edge], strict=True))


class Runner:
    """A module and one training step of it.

    Args:
        name: As the table shows it.
        parameters: What the optimizer holds.
        choose: Returns the module for an architecture, or a context that gives it.
        extra: Parameters whose gradient is wanted and that are not stepped.
    """

    def __init__(self, name: str, parameters: Any, choose: Choose, extra: Any = ()) -> None:
        self.name = name
        self.choose = choose
        self.extra = list(extra)
        self.optimizer = torch.optim.SGD(parameters, 0.025, momentum=0.9, weight_decay=5e-4, nesterov=True)

    def step(self, arch: Sequence[int], x: torch.Tensor, y: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        for parameter in self.extra:
            parameter.grad = None
        made = self.choose(arch)
        with nullcontext(made) if isinstance(made, nn.Module) else made as module:
            F.cross_entropy(module(x), y).backward()
        self.optimizer.step()


def plain(program: Any, arch: Sequence[int]) -> Runner:
    """Returns the runner of the child alone."""
    torch.manual_seed(0)
    space = mu.space(program)
    child = space.materialize(dna_of(space, arch))
    return Runner("child", child.parameters(), lambda arch: child)


def dna_of(space: Any, arch: Sequence[int]) -> Any:
    """Returns the DNA whose decisions are the given indices."""
    return space.dna({point.key: index for point, index in zip(space.points, arch, strict=True)})


def shared_runner(name: str, program: Any, **settings: Any) -> tuple[Runner, Any]:
    """Returns the runner of the shared program, and that."""
    shared = mu.share_weights(program, **settings)
    return Runner(name, shared.module.parameters(), lambda arch: shared.materialize(dna_of(shared.space, arch))), shared


def soft_draw(alphas: torch.Tensor) -> torch.Tensor:
    """Returns a soft draw of every decision (Dong and Yang 2019, eq. 4)."""
    noise = -torch.empty_like(alphas).exponential_().log()
    return ((alphas.log_softmax(1) + noise) / 5.0).softmax(1)


def gated(alphas: torch.Tensor, arch: Sequence[int]) -> torch.Tensor:
    """Returns straight-through weights of an architecture: its one-hot vectors, with the gradient of a soft draw."""
    soft = soft_draw(alphas)
    return F.one_hot(torch.tensor(arch), len(OPERATIONS)).to(soft) - soft.detach() + soft


def gates_of(alphas: torch.Tensor, arch: Sequence[int]) -> list[Subset]:
    """Returns the same weights as selections: of the chosen operations, and the sum of the others, which is 0."""
    soft = soft_draw(alphas)
    chosen = soft.gather(1, torch.tensor(arch)[:, None])
    others = soft.sum(1, keepdim=True) - chosen
    gates, offsets = (1.0 + (chosen - chosen.detach())).unbind(), (others - others.detach()).view(-1).unbind()
    return [Subset((k,), *pair) for k, *pair in zip(arch, gates, offsets, strict=True)]


def selecting_runner(name: str, program: Any, *, mixture: bool) -> Runner:
    """Returns the runner of the shared program with a selection for every decision."""
    shared = mu.share_weights(program)
    alphas = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(OPERATIONS)))

    def choose(arch: Sequence[int]) -> AbstractContextManager[Any]:
        made = [Mixture(row) for row in alphas.softmax(1).unbind()] if mixture else gates_of(alphas, arch)
        selections = {point.key: selection for point, selection in zip(shared.points, made, strict=True)}
        return shared.select(dna_of(shared.space, arch), selections)

    return Runner(name, shared.module.parameters(), choose, [alphas])


def masking_runner(name: str) -> Runner:
    """Returns the runner of the shared program of widths with a mixture of all of them at every place."""
    shared = mu.share_weights(size_program(), positions="leading", sizes="largest")
    alphas = nn.Parameter(1e-3 * torch.randn(len(shared.points), len(WIDTHS)))
    dna = dna_of(shared.space, (len(WIDTHS) - 1,) * len(shared.points))

    def choose(arch: Sequence[int]) -> AbstractContextManager[Any]:
        rows = alphas.softmax(1).unbind()
        return shared.select(dna, {point.key: Mixture(row) for point, row in zip(shared.points, rows, strict=True)})

    return Runner(name, shared.module.parameters(), choose, [alphas])


SLIMMED = resnet_program(20, widths="stage", ratios=(0.75, 1.0), is_depth_searched=False)
"""ResNet-20 whose widths are 12 or 16 in the first stage, 24 or 32, 48 or 64."""


class HandSliced(nn.Module):
    """ResNet-20 of full width that runs the leading 3/4 of all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.net = CifarResNet(full_widths(20), [3, 3, 3])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(_sliced(x, self.net.stem, self.net.stem_norm))
        for stage in self.net.stages:
            for block in stage:
                inner = F.relu(_sliced(x, block.first, block.first_norm))
                short = x
                if isinstance(block.short, Projection):
                    short = _sliced(block.short.pool(x), block.short.conv)
                x = F.relu(short + _sliced(inner, block.second, block.second_norm))
        last = self.net.classifier
        return F.linear(x.mean((2, 3)), last.weight[:, : x.shape[1]], last.bias)


def _sliced(x: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> torch.Tensor:
    made = conv.out_channels * 3 // 4
    x = F.conv2d(x, conv.weight[:made, : x.shape[1]], None, conv.stride, conv.padding)
    if norm is None:
        return x
    return F.batch_norm(x, norm.running_mean[:made], norm.running_var[:made], norm.weight[:made], norm.bias[:made],
                        norm.training, norm.momentum, norm.eps)  # fmt: skip


def slices_by_hand() -> Runner:
    """Returns the runner of the network that slices by hand."""
    torch.manual_seed(0)
    made = HandSliced()
    return Runner("slices by hand", made.parameters(), lambda arch: made)


class HandMasked(nn.Module):
    """The widest network with a mask of channels behind the stem and behind each cell."""

    def __init__(self) -> None:
        super().__init__()
        space = mu.space(size_program())
        self.net = space.materialize(dna_of(space, (len(WIDTHS) - 1,) * 5))
        self.alphas = nn.Parameter(1e-3 * torch.randn(5, len(WIDTHS)))
        self.register_buffer("rows", (torch.arange(max(WIDTHS)) < torch.tensor(WIDTHS)[:, None]).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        masks = (self.alphas.softmax(1) @ self.rows)[:, :, None, None]
        x = self.net.stem(x) * masks[0]
        for cell, mask in zip(self.net.cells, masks, strict=True):
            x = cell(x) * mask
        logits: torch.Tensor = self.net.classifier(self.net.last(x).mean((2, 3)))
        return logits


def masks_by_hand() -> Runner:
    """Returns the runner of the network that masks by hand."""
    torch.manual_seed(0)
    made = HandMasked()
    return Runner("masks by hand", made.net.parameters(), lambda arch: made, [made.alphas])


def by_hand(channels: int, cells: int, kind: str) -> Runner:
    """Returns the runner of a supernet that is written by hand: `single`, `gates` or `mixture`."""
    torch.manual_seed(0)
    net = mu.space(topology_program(channels=channels, cells_per_stage=cells)).materialize(
        dna_of(mu.space(topology_program(channels=channels, cells_per_stage=cells)), BEST)
    )
    for place, layer in enumerate(net.cells):
        if isinstance(layer, Cell):
            net.cells[place] = HandCell(channels * 2 ** (place // (cells + 1)))
    alphas = nn.Parameter(1e-3 * torch.randn(len(EDGES), len(OPERATIONS)))

    def choose(arch: Sequence[int]) -> nn.Module:
        weights = alphas.softmax(1) if kind == "mixture" else None
        gates = gated(alphas, arch) if kind == "gates" else None
        for layer in net.cells:
            if isinstance(layer, HandCell):
                layer.arch, layer.weights, layer.gates = arch, weights, gates
        return net

    return Runner(f"{kind} by hand", net.parameters(), choose, [alphas] * (kind != "single"))


def architectures(count: int, seed: int) -> list[tuple[int, ...]]:
    """Returns all 3x3 convolutions, the best cell, and random cells whose output sees the input."""
    made, rng = [(3,) * 6, BEST], Rng(seed, "architectures")
    while len(made) < count:
        arch = tuple(int(rng.random() * len(OPERATIONS)) for _ in EDGES)
        live = {0}
        for (source, end), index in zip(EDGES, arch, strict=True):
            if OPERATIONS[index] != "none" and source in live:
                live.add(end)
        if 3 in live:
            made.append(arch)
    return made[:count]


def saved_bytes(run: Callable[[], None]) -> int:
    """Returns how many bytes a step keeps for its backward pass."""
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(seen.values())


def flops(run: Callable[[], None]) -> int:
    """Returns the FLOPs of a step."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def compare(runners: Sequence[Runner], archs: Sequence[Sequence[int]], child_of: Callable[[Sequence[int]], Runner],
            batch: tuple[torch.Tensor, torch.Tensor], reps: int, seed: int) -> Ratios:  # fmt: skip
    """Returns the ratios of each runner to the child, one per architecture: `time`, `flops`, `saved`."""
    rows: Ratios = {r.name: {"time": [], "flops": [], "saved": []} for r in runners}
    rng = Rng(seed, "order")
    for arch in archs:
        child = child_of(arch)
        everyone = [child, *runners]
        for runner in everyone:
            for _ in range(2):
                runner.step(arch, *batch)
        seconds: dict[str, list[float]] = {r.name: [] for r in everyone}
        for _ in range(reps):
            for runner in rng.sample(everyone, len(everyone)):
                start = time.process_time()
                runner.step(arch, *batch)
                seconds[runner.name].append(time.process_time() - start)
        counted = {"flops": flops, "saved": saved_bytes}
        base = {key: count(lambda: child.step(arch, *batch)) for key, count in counted.items()}  # noqa: B023
        for runner in runners:
            ratios = [a / b for a, b in zip(seconds[runner.name], seconds["child"], strict=True)]
            rows[runner.name]["time"].append(statistics.median(ratios))
            for key, count in counted.items():
                rows[runner.name][key].append(count(lambda: runner.step(arch, *batch)) / base[key])  # noqa: B023
    return rows


def switch_us(shared: Any, count: int = 200) -> float:
    """Returns the median time of a switch between random architectures, in microseconds."""
    dnas = [shared.space.random(seed) for seed in range(count)]
    for dna in dnas:
        shared.materialize(dna)
    seconds = []
    for dna in dnas:
        start = time.process_time()
        shared.materialize(dna)
        seconds.append(time.process_time() - start)
    return 1e6 * statistics.median(seconds)


def mean(values: Sequence[float]) -> float:
    """Returns the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=1, help="cells per stage")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--image", type=int, default=32)
    parser.add_argument("--archs", type=int, default=4)
    parser.add_argument("--reps", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    batch = torch.randn(options.batch, 3, options.image, options.image), torch.randint(0, 10, (options.batch,))

    cells = topology_program(channels=options.channels, cells_per_stage=options.cells)
    ours, shared = shared_runner("shared", cells)
    ours_too = [selecting_runner(f"shared, {name}", cells, mixture=name == "mixture") for name in ("gates", "mixture")]
    hand = [by_hand(options.channels, options.cells, kind) for kind in ("single", "gates", "mixture")]
    archs = architectures(options.archs, options.seed)
    rows = compare([ours, *ours_too, *hand], archs, lambda a: plain(cells, a), batch, options.reps, options.seed)
    sizes, size_shared = shared_runner("shared, widths", size_program(), positions="leading")
    widths = [(5, 5, 5, 5, 5), (3, 4, 2, 6, 1)][: options.archs]
    guarded, guarded_shared = shared_runner("guarded, widths", size_program(), positions="leading")
    guarded_shared.guard(guarded.optimizer)
    rows |= compare([sizes, guarded], widths, lambda a: plain(size_program(), a), batch, options.reps, options.seed)
    slimmed, _ = shared_runner("shared, slices", SLIMMED, positions="leading")
    kept, kept_shared = shared_runner("guarded, slices", SLIMMED, positions="leading")
    kept_shared.guard(kept.optimizer)
    narrow = [(0,) * len(kept_shared.points)]
    by_slices = [slimmed, kept, slices_by_hand()]
    rows |= compare(by_slices, narrow, lambda a: plain(SLIMMED, a), batch, options.reps, options.seed)
    masked = [masking_runner("shared, masks"), masks_by_hand()]
    widest = [(len(WIDTHS) - 1,) * 5]
    rows |= compare(masked, widest, lambda a: plain(size_program(), a), batch, options.reps, options.seed)
    switches = {"shared": switch_us(shared), "shared, widths": switch_us(size_shared)}

    print(
        f"torch {torch.__version__}, {platform.machine()}, 1 thread, C={options.channels}, N={options.cells}, "
        f"batch {options.batch}, {options.image}x{options.image}, {len(archs)} architectures x {options.reps}"
    )
    print("| runner | time x child | FLOPs x | saved activations x | switch, us |\n|---|---|---|---|---|")
    for name, row in rows.items():
        switch = f"{switches[name]:.0f}" if name in switches else ""
        low, high = min(row["time"]), max(row["time"])
        print(f"| {name} | {mean(row['time']):.3f} [{low:.3f}, {high:.3f}] | {mean(row['flops']):.3f} | "
              f"{mean(row['saved']):.3f} | {switch} |")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options) | {"json": None}, "rows": rows, "us": switches}))


if __name__ == "__main__":
    main()
