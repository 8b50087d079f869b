"""Small SVG plots for the report: curves, bars and intervals. Pure; no library, no script, text stays text.

Colours come from CSS classes of the report's style sheet, so that plots follow light and dark mode.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 56, 12, 12, 34


@dataclass(frozen=True, slots=True)
class Series:
    """One named curve."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One line of an interval plot."""

    label: str
    estimate: float
    low: float
    high: float
    kind: str
    """CSS class of the mark: pass, fail, inconclusive, information."""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Choose round tick values (1, 2 or 5 times a power of ten) that cover [low, high]."""
    if not math.isfinite(low) or not math.isfinite(high) or high <= low:
        return [low]
    raw = (high - low) / count
    if not raw:  # a range below the smallest number divides to nothing
        return [low]
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str, height: int = 240) -> str:
    """Draw curves over shared axes; empty series are left out, no data gives a sentence."""
    shown = [one for one in series if one.points]
    if not shown:
        return "<p>No points were recorded.</p>"
    xs = [x for one in shown for x, _ in one.points]
    ys = [y for one in shown for _, y in one.points]
    x_axis = _Axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT)
    y_axis = _Axis(min(0.0, *ys) if min(ys) < 0 else 0.0, max(ys), height - _BOTTOM, _TOP)
    parts = [_frame(x_axis, y_axis, x_label=x_label, y_label=y_label, height=height)]
    for index, one in enumerate(shown):
        path = " ".join(f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}" for x, y in one.points)
        parts.append(f'<polyline class="curve c{index % 4}" points="{path}"/>')
        if len(one.points) < 40:
            parts += [
                f'<circle class="dot c{index % 4}" cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="2.5"/>'
                for x, y in one.points
            ]
        label_y = _TOP + 14 + 16 * index
        parts.append(
            f'<text class="legend c{index % 4}" x="{_WIDTH - _RIGHT - 6}" y="{label_y}">'
            f"{escape(one.name)}</text>"
        )
    return _svg(parts, height, f"{y_label} by {x_label}: " + ", ".join(one.name for one in shown))


def bar_chart(values: Mapping[str, float], *, unit: str) -> str:
    """Draw horizontal bars with their numbers, in the order given."""
    if not values:
        return f"<p>No {escape(unit)}.</p>"
    longest = max(max(values.values()), 1e-12)
    parts: list[str] = []
    for index, (label, value) in enumerate(values.items()):
        y = 6 + 24 * index
        width = 330 * value / longest
        parts.append(f'<text class="label" x="220" y="{y + 13}">{escape(label)}</text>')
        parts.append(f'<rect class="bar" x="228" y="{y}" width="{max(width, 1):.1f}" height="17" rx="2"/>')
        parts.append(f'<text class="value" x="{234 + width:.1f}" y="{y + 13}">{value:,.4g}</text>')
    return _svg(parts, 12 + 24 * len(values), f"{unit}: " + ", ".join(values))


def interval_chart(rows: Sequence[IntervalRow], *, x_label: str, zero: float | None = 0.0) -> str:
    """Draw estimates with their intervals, one a line, and a rule at `zero`."""
    if not rows:
        return "<p>Nothing to compare.</p>"
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    if zero is not None:
        low, high = min(low, zero), max(high, zero)
    height = 28 * len(rows) + _BOTTOM + 8
    axis = _Axis(low, high, 300, _WIDTH - _RIGHT - 8)
    parts = [
        f'<text class="tick" x="{axis.at(tick):.1f}" y="{height - 16}">{tick:g}</text>'
        for tick in ticks(axis.low, axis.high)
    ]
    parts.append(f'<text class="axis" x="460" y="{height - 2}">{escape(x_label)}</text>')
    if zero is not None:
        x = axis.at(zero)
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - _BOTTOM}"/>')
    for index, row in enumerate(rows):
        y = 20 + 28 * index
        start, end = axis.at(row.low), axis.at(row.high)
        parts.append(f'<text class="label" x="290" y="{y + 4}">{escape(row.label)}</text>')
        parts.append(f'<line class="span {row.kind}" x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="mark {row.kind}" cx="{axis.at(row.estimate):.1f}" cy="{y}" r="4.5"/>')
    return _svg(parts, height, x_label + ": " + ", ".join(row.label for row in rows))


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    """Pixel of `low`."""
    end: float
    """Pixel of `high`."""

    def at(self, value: float) -> float:
        span = self.high - self.low
        share = (value - self.low) / span if span > 0 else 0.5
        return self.start + share * (self.end - self.start)


def _frame(x_axis: _Axis, y_axis: _Axis, *, x_label: str, y_label: str, height: int) -> str:
    parts: list[str] = []
    for tick in ticks(y_axis.low, y_axis.high):
        y = y_axis.at(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick left" x="{_LEFT - 6}" y="{y + 4:.1f}">{tick:g}</text>')
    for tick in ticks(x_axis.low, x_axis.high, 8):
        parts.append(f'<text class="tick" x="{x_axis.at(tick):.1f}" y="{height - 18}">{tick:g}</text>')
    parts.append(f'<text class="axis" x="{_WIDTH / 2}" y="{height - 3}">{escape(x_label)}</text>')
    middle = height / 2
    parts.append(
        f'<text class="axis" x="12" y="{middle}" transform="rotate(-90 12 {middle})">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    label = escape(title, {'"': "&quot;"})
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{label}">' + "".join(parts) + "</svg>"
    )
