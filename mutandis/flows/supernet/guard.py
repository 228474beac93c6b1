"""Keeps an optimizer's hands off the weights that no child has used.

A child that uses half of a tensor gives the other half a gradient of zero, not none: momentum moves it on, weight decay
shrinks it, and the averages of Adam forget what they knew. Before each step the unused places are set aside, together
with their state; after it they are put back. While they are away they hold zeros, so that states which the step makes
begin there as they begin everywhere. This is exact for any optimizer whose update is elementwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from mutandis.flows.supernet.cuts import is_whole, region
from mutandis.flows.supernet.store import Key, Store

_Saved = tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]


class Guard:
    """The hooks on one optimizer; made by `Shared.guard`.

    Args:
        store: The shared tensors.
        optimizer: An optimizer over them.
        renew: Lends the shared tensors anew. A step changes them in place, and views forget their hooks then.
    """

    def __init__(self, store: Store, optimizer: torch.optim.Optimizer, renew: Callable[[], None]) -> None:
        self._store = store
        self._renew = renew
        self._keys: dict[int, Key] = {id(store.tensor(key)): key for key in store.every_key()}
        self._touched: set[int] = set()
        self._saved: list[_Saved] = []
        shared = [p for group in optimizer.param_groups for p in group["params"] if id(p) in self._keys]
        self._handles: list[Any] = [p.register_post_accumulate_grad_hook(self._touch) for p in shared]
        self._handles.append(optimizer.register_step_pre_hook(self._before))
        self._handles.append(optimizer.register_step_post_hook(self._after))
        store.is_watched = True
        renew()

    def remove(self) -> None:
        """Takes the hooks off: from now on zeros flow into every state."""
        for handle in self._handles:
            handle.remove()

    def _touch(self, parameter: torch.Tensor) -> None:
        self._touched.add(id(parameter))

    @torch.no_grad()
    def _before(self, optimizer: torch.optim.Optimizer, *rest: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or id(parameter) not in self._keys:
                    continue
                if id(parameter) not in self._touched:
                    parameter.grad = None  # Zeros that `zero_grad(set_to_none=False)` left behind.
                    continue
                used = self._used(parameter)
                if used is not None:
                    self._set_aside(parameter, used, optimizer.state.get(parameter, {}))

    def _used(self, parameter: torch.Tensor) -> torch.Tensor | None:
        """Returns a mask of what children have used since the last step, or None for everything."""
        cuts = self._store.used.get(self._keys[id(parameter)], {}).values()
        if not cuts or any(is_whole(cut) for cut in cuts):
            return None
        mask = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
        for cut in cuts:
            mask[region(cut, parameter.shape, parameter.device)] = True
        return mask

    def _set_aside(self, parameter: torch.Tensor, used: torch.Tensor, state: dict[str, Any]) -> None:
        kept = {name: value.clone() for name, value in state.items() if _is_like(value, parameter)}
        self._saved.append((parameter, used, parameter.detach().clone(), kept))
        parameter.masked_fill_(~used, 0)
        assert parameter.grad is not None  # Asked by the caller.
        parameter.grad.masked_fill_(~used, 0)

    @torch.no_grad()
    def _after(self, optimizer: torch.optim.Optimizer, *rest: Any) -> None:
        for parameter, used, value, kept in self._saved:
            parameter.copy_(torch.where(used, parameter, value))
            state = optimizer.state.get(parameter, {})
            for name, before in kept.items():
                state[name].copy_(torch.where(used, state[name], before))
        self._saved.clear()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self._touched.discard(id(parameter))
                if id(parameter) in self._keys:
                    self._store.used.pop(self._keys[id(parameter)], None)
        self._renew()


def _is_like(value: Any, parameter: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == parameter.shape


__all__ = ["Guard"]
