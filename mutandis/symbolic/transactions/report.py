"""What a rebind did: which objects were rebuilt, which tensors survived, what could not be carried over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reinitialised:
    """A parameter or buffer that a rebind made anew.

    Attributes:
        name: Its path.
        old_shape: Its shape before; None when it is new.
        new_shape: Its shape now; None when it is gone.
    """

    name: str
    old_shape: tuple[int, ...] | None
    new_shape: tuple[int, ...] | None

    def __str__(self) -> str:
        if self.old_shape is None:
            return f"{self.name}: new {self.new_shape}"
        if self.new_shape is None:
            return f"{self.name}: gone {self.old_shape}"
        return f"{self.name}: {self.old_shape} -> {self.new_shape}"


@dataclass(frozen=True)
class Report:
    """The report of one rebind.

    Attributes:
        result: The object that was rebound; a new one where the old could not be changed in place.
        rebuilt: Paths of the objects whose `__init__` ran again; `(holder Name)` for those above the root.
        in_place: Paths of the objects that took their change without it (`on_rebind`, optimizers).
        reinitialised: Parameters and buffers that were made anew.
        kept: How many parameters and buffers are the same objects as before.
        carried: Attributes that `__init__` does not set and that were carried over.
        dormant: Edits whose layer does not exist now.
        warnings: What could not be kept, in words.
    """

    result: Any
    rebuilt: tuple[str, ...] = ()
    in_place: tuple[str, ...] = ()
    reinitialised: tuple[Reinitialised, ...] = ()
    kept: int = 0
    carried: tuple[str, ...] = ()
    dormant: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"rebind: {len(self.rebuilt)} rebuilt, {self.kept} tensors kept, {len(self.reinitialised)} made anew"]
        for title, items in (
            ("rebuilt", self.rebuilt),
            ("in place", self.in_place),
            ("made anew", self.reinitialised),
            ("carried", self.carried),
            ("dormant", self.dormant),
            ("warning", self.warnings),
        ):
            lines += [f"  {title + ':':<10} {item if str(item) else '(the root)'}" for item in items]
        return "\n".join(lines)


@dataclass
class Findings:
    """What is collected while a rebind runs; becomes a `Report`."""

    rebuilt: list[Any] = field(default_factory=list)
    in_place: list[Any] = field(default_factory=list)
    reinitialised: list[tuple[Any, Reinitialised]] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    carried: list[tuple[Any, str]] = field(default_factory=list)
    dormant: list[tuple[Any, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
