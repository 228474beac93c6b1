"""The shared tensors as one module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mutandis.errors import LoweringError


class SharedModule(nn.Module):
    """All shared weights as one module: its parameters, its state, its device.

    Called, it runs the live program's module.
    """

    _after_move: list[Callable[[Callable[..., Any]], None]]
    _live: list[nn.Module]
    _held: list[tuple[dict[str, Any], str, nn.Parameter]]

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "_after_move", [])
        object.__setattr__(self, "_live", [])
        object.__setattr__(self, "_held", [])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module of the live program."""
        if len(self._live) != 1:
            raise LoweringError(
                "cannot run the shared module",
                got=len(self._live),
                expected="one live module",
                fix="call shared.materialize(dna) first, and run its modules one by one if there are several",
            )
        for table, name, parameter in self._held:
            if table[name] is not parameter:
                raise LoweringError(
                    "cannot run the shared module with other tensors",
                    at=f"parameter {name}",
                    got="another tensor in its place, as torch.func.functional_call puts it there",
                    expected="the shared weights, which the live program has views of",
                    fix="call functional_call on shared.export(dna), or load tensors with load_state_dict",
                )
        return self._live[0](*args, **kwargs)

    def hold(self) -> None:
        """Notes which parameters the live program has views of."""
        tables = [module._parameters for module in self.modules()]
        self._held[:] = [(table, name, p) for table in tables for name, p in table.items() if p is not None]

    def train(self, mode: bool = True) -> SharedModule:
        """Sets the mode of the live program too."""
        for module in self._live:
            module.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> SharedModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._lend_anew(fn)
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copies a state into the shared weights; with `assign=True` its tensors take their place."""
        found = super().load_state_dict(state_dict, strict, assign)
        if assign:
            self._lend_anew(lambda tensor: tensor)
        return found

    def _lend_anew(self, fn: Callable[..., Any]) -> None:
        self.hold()
        for renew in self._after_move:
            renew(fn)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_live": [], "_after_move": [], "_held": []}


__all__ = ["SharedModule"]
