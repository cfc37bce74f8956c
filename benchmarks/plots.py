"""Plots as SVG, written by hand: no library, no script, readable on light and on dark pages."""

from __future__ import annotations

import math
from html import escape

from measuring import Plot

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 170, 40, 52
COLORS = ("#2f81f7", "#d29922", "#3fa75a", "#db61a2", "#a371f7", "#e5534b", "#1b9aaa", "#8b949e")
"""Middle tones: at least 3 : 1 against white and against near-black."""

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #57606a }
.title { font-size: 14px; font-weight: 600 }
.grid { stroke: #8b949e; stroke-opacity: .3 }
.line { fill: none; stroke-width: 2 }
.floor { stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) { text { fill: #adbac7 } }
"""


def svg(plot: Plot) -> str:
    """Returns the plot as a picture. Lines named after a floor are dashed."""
    scale = _Shares() if plot.is_share else _Logarithmic(plot)
    inner = WIDTH - LEFT - RIGHT

    def x(step: int) -> float:
        return LEFT + inner * (step + 0.5) / len(plot.steps)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - scale.share(value) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(plot.title)}: {escape(plot.y)} over {escape(plot.x)}</title>",
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="20">{escape(plot.title)} ({escape(plot.y)})</text>',
    ]
    for value in scale.ticks:
        parts += [
            (
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" '
                f'y2="{y(value):.1f}"/>'
            ),
            f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,.7g}</text>',
        ]
    parts += [
        f'<text x="{x(step):.1f}" y="{HEIGHT - BOTTOM + 18}" '
        f'text-anchor="middle">{escape(label)}</text>'
        for step, label in enumerate(plot.steps)
    ]
    middle = LEFT + inner / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(plot.x)}</text>'
    )
    for number, (name, values) in enumerate(plot.lines.items()):
        color = COLORS[number % len(COLORS)]
        kind = "line floor" if "floor" in name or "bare" in name or "own" in name else "line"
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in enumerate(values))
        height = TOP + 8 + 20 * number
        parts += [
            f'<polyline class="{kind}" stroke="{color}" points="{points}"/>',
            *(
                f'<circle r="3" fill="{color}" cx="{x(step):.1f}" cy="{y(value):.1f}"/>'
                for step, value in enumerate(values)
            ),
            f'<path class="{kind}" stroke="{color}" d="M{WIDTH - RIGHT + 12} {height}h24"/>',
            f'<text x="{WIDTH - RIGHT + 42}" y="{height + 4}">{escape(name)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


class _Logarithmic:
    """A logarithmic axis over the values' range, widened to whole ticks."""

    def __init__(self, plot: Plot) -> None:
        values = [value for values in plot.lines.values() for value in values]
        marks = [mark * 10.0**power for power in range(-6, 10) for mark in (1, 2, 5)]
        self._low = max(mark for mark in marks if mark <= max(min(values), 1e-6))
        self._high = min(mark for mark in marks if mark >= max(values) and mark > self._low)
        self.ticks = [mark for mark in marks if self._low * 0.999 <= mark <= self._high * 1.001]

    def share(self, value: float) -> float:
        """Returns how far up a value stands."""
        return math.log10(value / self._low) / math.log10(self._high / self._low)


class _Shares:
    """A linear axis from 0 to 1."""

    ticks = tuple(step / 5 for step in range(6))

    def share(self, value: float) -> float:
        """Returns how far up a value stands."""
        return value
