"""`mu.share_weights`."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.data import DataLoader, Dataset

from mutandis.errors import LoweringError, SettingError, SpaceError
from mutandis.flows.supernet.lowering.roots import Run
from mutandis.flows.supernet.shared import Shared
from mutandis.hyper import Rng, TracedProgram, space


def share_weights(
    program: Any, batch: Any = None, *, positions: str = "proven", sizes: str = "proven", norms: str = "given",
    kernels: str = "crop", run: Run | None = None, check: str = "sampled", seed: int = 0,
) -> Shared:  # fmt: skip
    """Makes all children of a program share one set of weights, without an edit of the program.

    Choices among things have separate weights; numbers (widths, depths, kernel sizes) take parts of the same tensor.
    Given a batch, four children are held against really built ones (see `Shared.verify`).

    Args:
        program: What holds hyper values, or its space.
        batch: An example of the argument of the module, or a tuple of its arguments, on the CPU. Needed where a
            number decides a size.
        positions: What happens where a part of a tensor cannot be proven to be the right one: `proven` refuses, and
            `leading` takes the leading places.
        sizes: What happens where an algorithm mixes sizes (see `Shared.select`) and a mixture with all its weight on
            one size is not the child of that size: `proven` refuses, and `largest` runs there what the largest size
            has, such as norms over channels, or layers that are there or not.
        norms: What becomes of the scales and shifts of norms that belong to candidates of a choice: `given` trains
            them, `no_affine` leaves them at 1 and 0, as GDAS needs it (a candidate that scales its own output takes the
            signal away). Norms outside of candidates stay as they are, and so does the program.
        kernels: What convolutions share whose kernel size is a decision: `crop`, the centre of the largest kernel;
            `transform`, the centre of the next larger kernel times a matrix that the channels of the layer share, the
            identity at first (Cai et al. 2020, arXiv 1908.09791, Sec. 3.3); `separate`, nothing, so that each size has
            a weight and a bias of its own.
        run: Runs a batch through the program, `run(program, *batch)`; by default its module is called. Needed with a
            batch where a program has several modules; all of them must then take part.
        check: How it is known what depends on what. `sampled`: every decision is varied alone, random children are
            held against that, and each child that is built later too; what only a rare combination of several
            decisions changes may go unseen until `verify` or `export`. `always`: each DNA is really built at its first
            use, which costs a build (milliseconds to tens of them) and a place in memory each.
        seed: Seed of the initial weights, and of the children that are compared.

    Returns:
        The shared program.

    Raises:
        LoweringError: it cannot share weights; the message names the place and the remedy.
        SpaceError: the program does not describe a space, or has no decisions.
        SettingError: an argument is out of range.
    """
    if isinstance(program, Shared):
        raise LoweringError("cannot share weights twice", got=program, expected="a program, or its space",
                            fix="use it as it is, or copy.deepcopy(shared) for another one")  # fmt: skip
    made = space(program)
    if not made.points:
        raise SpaceError(
            "cannot share the weights of a program without decisions",
            got=program,
            expected="at least one hyper value in its arguments",
            fix="put mu.oneof([...]) or another hyper value where something shall be searched",
        )
    if isinstance(made.program, TracedProgram):
        raise LoweringError(
            "cannot share the weights of a function that decides as it runs",
            got=program,
            expected="a program whose modules can be seen before it runs",
            fix="write the decisions as arguments of symbolic objects",
        )
    _one_of("positions", positions, "proven", "leading")
    _one_of("sizes", sizes, "proven", "largest")
    _one_of("norms", norms, "given", "no_affine")
    _one_of("kernels", kernels, "crop", "separate", "transform")
    _one_of("check", check, "sampled", "always")
    arguments = batch if batch is None or isinstance(batch, tuple) else (batch,)
    for part in () if arguments is None or run is not None else arguments:
        if isinstance(part, (nn.Module, DataLoader, Dataset)) or type(part).__module__ == "numpy":
            raise SettingError("cannot share weights", at="batch", got=type(part).__name__,
                               expected="tensors, as the module is called with",
                               fix="pass next(iter(loader))[0], or torch.as_tensor(x) of an array")  # fmt: skip
    shared = Shared(made, arguments, positions, check, seed, sizes, norms, run, kernels)
    if arguments is not None:
        _verify_some(shared, arguments, seed)
        shared.release()
    return shared


def _verify_some(shared: Shared, batch: tuple[Any, ...], seed: int) -> None:
    """Verifies the smallest and the largest child and two random ones."""
    chosen = {shared._known.extreme(False), shared._known.extreme(True)}
    chosen |= {shared.space.bare().random(Rng(seed, f"verify {i}")).values for i in range(2)}
    for dna in (shared.space.repair(values, lambda point: point.first()) for values in sorted(chosen, key=repr)):
        if shared.space.allows(dna):
            shared.verify(dna, batch)


def _one_of(name: str, value: str, *options: str) -> None:
    if value not in options:
        expected = " or ".join(map(repr, options))
        raise SettingError("cannot share weights", at=name, got=value, expected=expected, fix="leave it out")


__all__ = ["share_weights"]
