"""Spaces that every algorithm must be able to search."""

from __future__ import annotations

from mutandis.hyper import SearchSpace, floatv, intv, oneof, permutate, space, subset


def _conditional() -> SearchSpace:
    deepest = {"rate": floatv(0.1, 0.9), "units": intv(1, 8)}
    middle = {"kind": oneof(["relu", {"gated": oneof([deepest, "none", "half"])}]), "bias": oneof([False, True])}
    return space({"block": oneof(["skip", "conv", middle]), "depth": intv(1, 3)})


def _shared() -> SearchSpace:
    width = oneof([16, 32, 64])
    return space([width, {"same": width}, oneof([{"inner": width}, "plain"])])


def contract_spaces() -> dict[str, SearchSpace]:
    """Returns the spaces of the contract by name.

    Returns:
        One each of a choice, a float, a log float, an int, a permutation, a subset, a space that is conditional
        three deep, one with a shared decision, and the empty one.
    """
    return {
        "choice": space({"op": oneof(["conv", "pool", "skip"]), "act": oneof(["relu", "gelu"])}),
        "float": space({"momentum": floatv(0.0, 0.99)}),
        "log float": space({"lr": floatv(1e-5, 1.0, scale="log")}),
        "int": space({"layers": intv(1, 20)}),
        "permutation": space(permutate(["a", "b", "c", "d"])),
        "subset": space(subset(["a", "b", "c", "d"], min=1, max=3)),
        "conditional": _conditional(),
        "shared": _shared(),
        "empty": space({"constant": 1}),
    }
