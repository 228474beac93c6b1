"""Pictures as SVG text: elements, scales and axes; colours are classes, so that the page chooses them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass


def element(tag: str, *children: str, **attributes: object) -> str:
    """Returns an element; attribute values are escaped, children are not.

    Args:
        tag: Its name.
        *children: Elements, or what `text` returned.
        **attributes: `_` stands for `-` in a name, and a trailing one is dropped (`class_`); None leaves it out.
    """
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(_number(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{shown}>{''.join(children)}</{tag}>"


def text(value: object) -> str:
    """Returns a text, escaped."""
    return html.escape(str(value))


def _number(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Scale:
    """From values to places on the picture.

    Attributes:
        low: The least value.
        high: The largest.
        start: Where the least value is, in pixels.
        end: Where the largest is.
        is_log: Whether equal factors are equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Returns the place of a value; values outside are drawn at the edge."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Returns round values within the range, about so many."""
        if self.high == self.low:
            return [self.low]
        if self.is_log and self.high / self.low >= 10:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            every = max(1, -(-(last - first) // count))
            return [10.0**power for power in range(first, last + 1, every)]
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
        first_tick = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first_tick, math.floor(self.high / step + 1e-9) + 1)]


def fitted(values: Sequence[float], start: float, end: float, *, is_log: bool = False, margin: float = 0.04) -> Scale:
    """Returns the scale that holds some finite values, with a little air.

    Args:
        values: At least one.
        start: Where the least is, in pixels.
        end: Where the largest is.
        is_log: As for `Scale`; only for values above 0.
        margin: The air at each end, as a share of the range.
    """
    low, high = min(values), max(values)
    if is_log:
        air = (high / low) ** margin
        return Scale(low / air, high * air, start, end, is_log=True)
    air = (high - low) * margin or abs(high) * 0.05 or 0.5
    return Scale(low - air, high + air, start, end)


def short(value: float) -> str:
    """Returns a number as people write it on an axis."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def axes(x: Scale, y: Scale, x_label: str, y_label: str) -> str:
    """Returns the grid, the ticks and the labels of two axes."""
    parts = []
    for tick in x.ticks():
        place = x(tick)
        parts.append(element("line", x1=place, x2=place, y1=y.start, y2=y.end, class_="grid"))
        parts.append(element("text", text(short(tick)), x=place, y=y.start + 18, class_="tick middle"))
    for tick in y.ticks():
        place = y(tick)
        parts.append(element("line", x1=x.start, x2=x.end, y1=place, y2=place, class_="grid"))
        parts.append(element("text", text(short(tick)), x=x.start - 8, y=place + 4, class_="tick end"))
    middle = (x.start + x.end) / 2
    parts.append(element("text", text(x_label), x=middle, y=y.start + 38, class_="label middle"))
    parts.append(element("text", text(y_label), x=x.start, y=y.end - 10, class_="label"))
    return "".join(parts)


def picture(width: int, height: int, title: str, *children: str) -> str:
    """Returns a whole picture that grows with its page; the title is read out to who cannot see it."""
    return element("svg", element("title", text(title)), *children, viewBox=f"0 0 {width} {height}", role="img",
                   width="100%", xmlns="http://www.w3.org/2000/svg")  # fmt: skip


__all__ = ["Scale", "axes", "element", "fitted", "picture", "short", "text"]
