"""Line charts as plain SVG: logarithmic latency over rate, legible on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from typing import Final

WIDTH: Final = 760
PANEL_HEIGHT: Final = 250
LEFT, RIGHT, TOP, BELOW = 62, 14, 34, 46
LEGEND: Final = 62
GREY: Final = "#808890"
STYLES: Final = (
    ("#d1495b", ""),
    ("#2f8f6b", "7 4"),
    ("#2f8f6b", ""),
    ("#8c7ae6", "2 4"),
    ("#3a86d8", ""),
)
"""Colour and dashes of each line; every colour has a contrast of 3 on white and on black."""


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: (rate, latency, lower, upper) in seconds."""

    title: str
    points: Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart; `threshold` is drawn across it."""

    title: str
    lines: Sequence[Line]
    threshold: float


def _text(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{GREY}"{extra}>'
        f"{escape(text)}</text>"
    )


class _Axes:
    """From rates and latencies to places."""

    def __init__(self, panel: Panel, top: float) -> None:
        rates = [point[0] for line in panel.lines for point in line.points]
        values = [value for line in panel.lines for point in line.points for value in point[1:]]
        self.rates = (min(rates), max(rates))
        positive = [value for value in values if value > 0]
        self.latencies = (log10(min(positive) * 0.8), log10(max(positive) * 1.2))
        self.top, self.bottom = top + TOP, top + PANEL_HEIGHT - BELOW

    def x(self, rate: float) -> float:
        low, high = self.rates
        return LEFT + (rate - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, seconds: float) -> float:
        low, high = self.latencies
        share = (log10(max(seconds, 10**low)) - low) / (high - low)
        return self.bottom - share * (self.bottom - self.top)


def _grid(axes: _Axes, panel: Panel, top: float) -> list[str]:
    """Return title, axes and ticks."""
    parts = [_text(LEFT, top + 18, panel.title, "start", ' font-weight="bold"')]
    for seconds in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
        if not axes.latencies[0] <= log10(seconds) <= axes.latencies[1]:
            continue
        y = axes.y(seconds)
        at_threshold = seconds == panel.threshold
        style = ' stroke-dasharray="3 3"' if at_threshold else ' stroke-opacity="0.3"'
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{GREY}"{style}/>'
        )
        parts.append(_text(LEFT - 6, y + 4, f"{seconds:g} s", "end"))
    low, high = axes.rates
    step = next(size for size in (0.5, 1.0, 2.0, 5.0) if (high - low) / size <= 10)
    rate = low
    while rate <= high + 1e-9:
        parts.append(_text(axes.x(rate), axes.bottom + 18, f"{rate:g}"))
        rate += step
    parts.append(_text((LEFT + WIDTH) / 2, axes.bottom + 36, "requests per second"))
    return parts


def _curve(axes: _Axes, line: Line, style: tuple[str, str]) -> list[str]:
    colour, dashes = style
    path = " ".join(f"{axes.x(p[0]):.1f},{axes.y(p[1]):.1f}" for p in line.points)
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>']
    for rate, _, lower, upper in line.points:
        x = axes.x(rate)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{axes.y(lower):.1f}" y2="{axes.y(upper):.1f}" '
            f'stroke="{colour}"/>'
        )
    return parts


def _legend(lines: Sequence[Line]) -> list[str]:
    parts = []
    for number, line in enumerate(lines):
        x, y = LEFT + (number % 3) * 232, 18 + (number // 3) * 22
        colour, dashes = STYLES[number]
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        parts.append(
            f'<line x1="{x}" x2="{x + 26}" y1="{y}" y2="{y}" stroke="{colour}" '
            f'stroke-width="2.5"{dash}/>'
        )
        parts.append(_text(x + 32, y + 4, line.title, "start"))
    return parts


def draw(panels: Sequence[Panel], title: str) -> str:
    """Return the panels, one below the other, as an SVG document."""
    height = LEGEND + PANEL_HEIGHT * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        *_legend(panels[0].lines),
    ]
    for number, panel in enumerate(panels):
        top = LEGEND + number * PANEL_HEIGHT
        axes = _Axes(panel, top)
        parts += _grid(axes, panel, top)
        for line, style in zip(panel.lines, STYLES, strict=True):
            parts += _curve(axes, line, style)
    return "\n".join([*parts, "</svg>"]) + "\n"
