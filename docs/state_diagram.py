"""Draws the state machine of a request as SVG, from the transition table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 118
HEIGHT: Final = 34
STEP_X: Final = 245
STEP_Y: Final = 118
MARGIN: Final = 74

PLACES: Final[Mapping[str, tuple[float, float]]] = {
    "rejected": (0, 0),
    "delayed": (1, 0),
    "held": (4, 0),
    "new": (0, 1),
    "waiting": (1, 1),
    "prefill": (2, 1),
    "decode": (3, 1),
    "finished": (4, 1),
    "paused": (2.5, 2),
    "swapping-out": (1.75, 3),
    "swapped": (2.5, 3.8),
    "swapping-in": (3.25, 3),
    "cancelled": (0, 3),
}
"""Column and row of each state; the only part of the drawing that is not in the table."""

BENDS: Final[Mapping[tuple[str, str], float]] = {
    ("decode", "waiting"): 150,
    ("paused", "waiting"): -70,
    ("waiting", "prefill"): 0,
}
"""How far an arrow swings out, in pixels, where the default would cross a box."""

DOTS: Final[Mapping[str, tuple[str, str, float]]] = {
    "cancelled": ("gone", "red", -54),
    "new": ("moved", "blue", 34),
}
"""States that nearly all others lead to: shown by a dot in a colour, explained so far below."""

STYLE: Final = """\
<style>
text { font: 13px system-ui, sans-serif; text-anchor: middle; fill: #1a1a1a }
.move { font-size: 11px; fill: #444; stroke: #fff; stroke-width: 4px; paint-order: stroke }
.box { fill: #eef3fb; stroke: #3b5b8c; stroke-width: 1.2 }
.kv { fill: #dcebd9 }
.end { fill: #f4f4f4; stroke: #777 }
.arrow { fill: none; stroke: #555; stroke-width: 1.2; marker-end: url(#tip) }
.gone { fill: #a33 }
.moved { fill: #36c }
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
 orient="auto"><path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>"""


def draw(
    names: tuple[str, ...],
    moves: Mapping[tuple[str, str], str],
    resident: frozenset[str],
    ended: frozenset[str],
) -> str:
    """Return the SVG; every state must have a place."""
    missing = [name for name in names if name not in PLACES]
    assert not missing, f"no place in the drawing for {missing}"
    columns = max(x for x, _ in PLACES.values())
    rows = max(y for _, y in PLACES.values())
    width = round(columns * STEP_X + 2 * MARGIN)
    height = round(rows * STEP_Y + 2 * MARGIN)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<title>States of a request and the moves between them</title>",
        STYLE,
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    drawn = [move for move in moves if move[1] not in DOTS]
    for start, finish in drawn:
        lines += _arrow(start, finish, moves[start, finish], (finish, start) in drawn)
    for name in names:
        dots = [at for at in DOTS if (name, at) in moves]
        lines += _box(name, name in resident, name in ended, dots)
    for name, (_, colour, below) in DOTS.items():
        x, y = _at(name)
        reason = escape(moves[next(move for move in moves if move[1] == name)])
        for line, text in enumerate((f"{reason},", "from every state", f"with a {colour} dot")):
            at = y + below + 14 * line
            lines.append(f'<text class="move" x="{x:.0f}" y="{at:.0f}">{text}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _at(name: str) -> tuple[float, float]:
    x, y = PLACES[name]
    return MARGIN + x * STEP_X, MARGIN + y * STEP_Y


def _box(name: str, resident: bool, ended: bool, dots: Sequence[str]) -> Iterator[str]:
    x, y = _at(name)
    kind = "box kv" if resident else "box end" if ended else "box"
    yield (
        f'<rect class="{kind}" x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" '
        f'width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
    )
    yield f'<text x="{x:.0f}" y="{y + 4.5:.0f}">{escape(name)}</text>'
    for place, at in enumerate(dots):
        cx, cy = x + WIDTH / 2 - 9, y - 6 + 12 * place
        yield f'<circle class="{DOTS[at][0]}" cx="{cx:.0f}" cy="{cy:.0f}" r="3"/>'


def _arrow(start: str, finish: str, label: str, both_ways: bool) -> Iterator[str]:
    x0, y0 = _at(start)
    x1, y1 = _at(finish)
    if start == finish:
        top = y0 - HEIGHT / 2
        yield f'<path class="arrow" d="M{x0 - 20:.0f} {top:.0f}c-8 -42 48 -42 40 0"/>'
        yield f'<text class="move" x="{x0:.0f}" y="{top - 36:.0f}">{escape(label)}</text>'
        return
    dx, dy = x1 - x0, y1 - y0
    length = (dx * dx + dy * dy) ** 0.5
    bend = BENDS.get((start, finish), 44.0 if both_ways else 0.0)
    cx = (x0 + x1) / 2 - dy / length * bend
    cy = (y0 + y1) / 2 + dx / length * bend
    xs, ys = _edge(x0, y0, cx, cy)
    xe, ye = _edge(x1, y1, cx, cy)
    yield f'<path class="arrow" d="M{xs:.0f} {ys:.0f}Q{cx:.0f} {cy:.0f} {xe:.0f} {ye:.0f}"/>'
    at = 0.36 if both_ways else 0.5
    mx = (1 - at) ** 2 * xs + 2 * at * (1 - at) * cx + at * at * xe
    my = (1 - at) ** 2 * ys + 2 * at * (1 - at) * cy + at * at * ye
    yield f'<text class="move" x="{mx:.0f}" y="{my + 4:.0f}">{escape(label)}</text>'


def _edge(x: float, y: float, toward_x: float, toward_y: float) -> tuple[float, float]:
    """Return where a line from the middle of a box leaves it."""
    dx, dy = toward_x - x, toward_y - y
    reach = min(
        WIDTH / 2 / abs(dx) if dx else float("inf"), HEIGHT / 2 / abs(dy) if dy else float("inf")
    )
    return x + dx * reach, y + dy * reach
