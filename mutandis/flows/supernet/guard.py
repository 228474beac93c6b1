"""Keeps an optimizer's hands off the weights that no child has used.

A child that uses half of a tensor gives the other half a gradient of zero, not none: momentum moves it on, weight decay
shrinks it, and the averages of Adam forget what they knew. So an optimizer steps what was used, and nothing else: for
one step, a view of the used part stands in its groups for the parameter, with views of the gradient and of the state.
That is not more work than a step of the child alone.

Where the used places are no box, or no state is there yet, the unused places are set aside, together with their state,
and put back after the step. While they are away they hold zeros, so that states which the step makes begin there as
they begin everywhere. Both are exact for any optimizer whose update is elementwise. Optimizers other than torch's own
get copies without gaps for views, since they may not mind strides. After a step that raises, the parameters come back
to their places at the next one; until then, clear gradients by `shared.module.zero_grad()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from mutandis.errors import SettingError
from mutandis.flows.supernet.cuts import Cut, is_box, is_whole, region, take
from mutandis.flows.supernet.lending import Used
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Key

_MOST = 16384

_Saved = tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]


class _Part:
    """The used part of a parameter, which stands for it during a step.

    Args:
        parameter: The parameter.
        cut: A box of it.
        is_copied: Whether the optimizer gets copies, since it may not mind strides.
    """

    def __init__(self, parameter: torch.Tensor, cut: Cut, *, is_copied: bool) -> None:
        self.parameter, self._cut = parameter, cut
        self._memory = parameter.data_ptr()
        self._view = take(parameter.detach(), cut)
        self._box = (tuple(self._view.shape), self._view.stride(), self._view.storage_offset())
        self._is_plain = parameter.is_contiguous() and parameter.storage_offset() == 0
        self._is_copied = is_copied and not self._view.is_contiguous()
        self.part = self._view.contiguous() if self._is_copied else self._view
        self._known: dict[str, tuple[Any, torch.Tensor]] = {}
        self._given: dict[str, Any] = {}

    @property
    def is_current(self) -> bool:
        """Whether the parameter is still where it was."""
        return self.parameter.data_ptr() == self._memory

    def begin(self, state: dict[str, Any]) -> dict[str, Any]:
        """Takes up the values, the gradient and the state of the parameter, and returns the state of the part."""
        if self._is_copied:
            self.part.copy_(self._view)
        assert self.parameter.grad is not None  # Only what has one is stepped.
        gradient = self._taken(self.parameter.grad)
        self.part.grad = gradient.contiguous() if self._is_copied else gradient
        self._given = {name: self._part_of(name, value) for name, value in state.items()}
        return self._given.copy()

    def _part_of(self, name: str, value: Any) -> Any:
        known = self._known.get(name)
        if known is None or known[0] is not value:
            if not _is_like(value, self.parameter):
                return value
            known = self._known[name] = (value, take(value, self._cut))
        return known[1].contiguous() if self._is_copied else known[1]

    def _taken(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._is_plain and tensor.is_contiguous() and tensor.storage_offset() == 0:
            return tensor.as_strided(*self._box)  # Much of the time of a small step goes into this.
        return take(tensor, self._cut)

    def end(self, found: dict[str, Any], own: dict[str, Any]) -> None:
        """Hands on to the parameter what a step has done.

        Args:
            found: The state of the part after the step.
            own: The state of the parameter.
        """
        self.part.grad = None
        if self._is_copied:
            self._view.copy_(self.part)
        for name, value in found.items():
            if isinstance(value, torch.Tensor) and value.shape == self.part.shape:
                if not _is_like(own.get(name), self.parameter):  # A state that this step has begun.
                    own[name] = value.new_zeros(self.parameter.shape)
                if self._is_copied or value is not self._given.get(name):
                    take(own[name], self._cut).copy_(value)
            elif value is not self._given.get(name):
                own[name] = value
        self._given = {}


def need_shared(optimizer: Any, store: Store) -> None:
    """Refuses an optimizer that moves no shared weight.

    Raises:
        SettingError: it is none, or moves other weights only.
    """
    fix = "make it over shared.module.parameters(), after share_weights, and move the module before"
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise SettingError("cannot guard an optimizer", at="guard", got=type(optimizer).__name__,
                           expected="a torch.optim.Optimizer", fix=fix)  # fmt: skip
    known = {id(store.tensor(key)) for key in store.every_key()}
    if not any(id(p) in known for group in optimizer.param_groups for p in group["params"]):
        raise SettingError("cannot guard an optimizer", at="guard", got=f"{type(optimizer).__name__} of other weights",
                           expected="at least one of the shared weights", fix=fix)  # fmt: skip


class Guard:
    """The hooks on one optimizer; made by `Shared.guard`.

    Args:
        store: The shared tensors.
        optimizer: An optimizer over them.
        renew: Lends the shared tensors anew, so that it is noted through which part of them a gradient comes.
    """

    def __init__(self, store: Store, optimizer: torch.optim.Optimizer, renew: Callable[[], None]) -> None:
        self._store = store
        self._optimizer = optimizer
        self._keys: dict[int, Key] = {id(store.tensor(key)): key for key in store.every_key()}
        self._touched: set[int] = set()
        self._saved: list[_Saved] = []
        self._used: dict[int, Used] = {number: store.used_of(key) for number, key in self._keys.items()}
        self._parts: dict[tuple[Any, ...], _Part] = {}
        self._swapped: list[tuple[list[Any], int, _Part]] = []
        self._stateless: set[int] = set()
        shared = [p for group in optimizer.param_groups for p in group["params"] if id(p) in self._keys]
        trained = [p for p in shared if p.requires_grad]
        self._handles: list[Any] = [p.register_post_accumulate_grad_hook(self._touch) for p in trained]
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
        self._put_back(optimizer)  # What an error in the last step has left.
        is_plain = not any(callable(value) for part in rest for value in _values(part))
        for group in optimizer.param_groups:
            for place, parameter in enumerate(group["params"]):
                if parameter.grad is None or id(parameter) not in self._keys:
                    continue
                if id(parameter) not in self._touched:
                    parameter.grad = None  # Zeros that `zero_grad(set_to_none=False)` left behind.
                    continue
                used = self._used[id(parameter)]
                if not used or any(map(is_whole, used.values())):
                    continue
                state = optimizer.state.get(parameter, {})
                if is_plain and len(used) == 1 and self._may_swap(parameter, used, state):
                    self._swap(optimizer, group, place, used, state)
                else:
                    self._set_aside(parameter, _mask(parameter, used.values()), state)

    def _may_swap(self, parameter: torch.Tensor, used: Used, state: dict[str, Any]) -> bool:
        """Returns whether a step of the used part alone is the step of the parameter there."""
        return (
            (bool(state) or id(parameter) in self._stateless)
            and all(map(is_box, used.values()))
            and all(_is_like(value, parameter) or _is_small(value) for value in state.values())
        )

    def _swap(self, optimizer: torch.optim.Optimizer, group: dict[str, Any], place: int, used: Used,
              state: dict[str, Any]) -> None:  # fmt: skip
        """Puts the used part in the place of a parameter."""
        parameter: torch.Tensor = group["params"][place]
        ((name, cut),) = used.items()
        key = (id(parameter), name)
        part = self._parts.get(key)
        if part is None or not part.is_current:
            if len(self._parts) >= _MOST:
                self._parts.clear()
            is_copied = type(optimizer).__module__.partition(".")[0] != "torch" or bool(group.get("fused"))
            part = self._parts[key] = _Part(parameter, cut, is_copied=is_copied)
        optimizer.state[part.part] = part.begin(state)
        group["params"][place] = part.part
        self._swapped.append((group["params"], place, part))

    def _put_back(self, optimizer: torch.optim.Optimizer) -> None:
        """Puts all parameters back in their places."""
        for group, place, part in self._swapped:
            group[place] = part.parameter
            own = optimizer.state.get(part.parameter, {})
            part.end(optimizer.state.pop(part.part, {}), own)
            if own:
                optimizer.state[part.parameter] = own
        self._swapped.clear()

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
            if not state:
                self._stateless.add(id(parameter))
        self._saved.clear()
        self._put_back(optimizer)
        self._forget(optimizer)
        self._store.mark_changed()

    def forget(self) -> None:
        """Forgets what was used since the last step; to be called where a step is left out, as a `GradScaler` does."""
        self._forget(self._optimizer)

    def _forget(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                self._touched.discard(id(parameter))
                if id(parameter) in self._used:
                    self._used[id(parameter)].clear()


def _mask(parameter: torch.Tensor, cuts: Iterable[Cut]) -> torch.Tensor:
    """Returns which places of a parameter cuts have."""
    mask = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
    for cut in cuts:
        mask[region(cut, parameter.shape, parameter.device)] = True
    return mask


def _values(part: Any) -> Iterable[Any]:
    return part.values() if isinstance(part, dict) else part if isinstance(part, tuple) else ()


def _is_like(value: Any, parameter: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == parameter.shape


def _is_small(value: Any) -> bool:
    """Returns whether a state belongs to the parameter as a whole, such as a count of steps."""
    return not isinstance(value, torch.Tensor) or value.numel() <= 1


__all__ = ["Guard", "need_shared"]
