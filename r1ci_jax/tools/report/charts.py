"""Draw line charts as inline SVG: no plotting package, no script, no network.

Colors come from CSS classes (`s0`, `s1`, …) of the page, so a chart follows light and dark.
"""

import dataclasses
import html
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 360, 220
"""Units of a drawing, of which a phone shows about one per pixel: text has twelve."""
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 14, 36
LETTER = 6.5
"""Width of a letter of a label in units, about."""
MAX_POINTS = 400
"""Most points drawn per series; more are averaged in buckets."""
SMOOTH_FROM = 30
"""Series with at least this many points are drawn faint, with a trailing mean over them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One line. Points are (x, y), x ascending, y finite."""

    name: str
    color: int
    """Index of the page's palette."""
    points: tuple[tuple[float, float], ...]
    is_dashed: bool = False
    """True for what another line of the same color is compared with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """A vertical line with a label, where a curriculum stage begins."""

    x: float
    label: str


def draw_line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "step",
    marks: Sequence[Mark] = (),
    percent: bool = False,
) -> str:
    """Draw a figure with its legend; empty text when there is nothing to draw.

    With `percent` the values are fractions, shown in percent on an axis that begins at 0.
    """
    visible = [line for line in series if line.points]
    if not visible:
        return ""
    xs = [x for line in visible for x, _ in line.points]
    ys = [y for line in visible for _, y in line.points]
    y_ticks = choose_ticks(0.0 if percent else min(ys), max(ys))
    axes = _Axes(min(xs), max(xs), y_ticks[0], y_ticks[-1])
    body = [
        *_grid(axes, y_ticks, percent),
        *(_line(axes, line) for line in visible),
        *_marks(axes, [mark for mark in marks if axes.x0 <= mark.x <= axes.x1]),
        f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" '
        f'text-anchor="middle">{html.escape(x_label)}</text>',
    ]
    legend = "".join(
        f'<span><i class="key s{line.color}{" dashed" * line.is_dashed}"></i>'
        f"{html.escape(line.name)} "
        f"<b>{_format_value(line.points[-1][1], percent)}</b></span>"
        for line in visible
    )
    label = html.escape(title, quote=True)
    return (
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(body)}</svg>'
        f'<p class="legend">{legend}</p></figure>'
    )


def choose_ticks(low: float, high: float, target_count: int = 5) -> list[float]:
    """Choose round numbers that cover [low, high], about `target_count` of them.

    Around a single value they leave room; below 0 only where the value is.
    """
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad if low else 0.0, high + pad
    rough = (high - low) / target_count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def compute_trailing_mean(
    points: Sequence[tuple[float, float]], window: int
) -> list[tuple[float, float]]:
    """Average each y with the `window - 1` before it (fewer at the start)."""
    smooth: list[tuple[float, float]] = []
    for index, (x, _) in enumerate(points):
        part = [y for _, y in points[max(0, index - window + 1) : index + 1]]
        smooth.append((x, sum(part) / len(part)))
    return smooth


def downsample(
    points: Sequence[tuple[float, float]], max_points: int = MAX_POINTS
) -> list[tuple[float, float]]:
    """Reduce to at most `max_points` points: means of equal buckets."""
    if len(points) <= max_points:
        return list(points)
    size = math.ceil(len(points) / max_points)
    buckets = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in buckets]


@dataclasses.dataclass(frozen=True)
class _Axes:
    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        span = self.x1 - self.x0 or 1.0
        return LEFT + (value - self.x0) / span * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (HEIGHT - TOP - BOTTOM)


def _grid(axes: _Axes, y_ticks: Sequence[float], percent: bool) -> list[str]:
    parts: list[str] = []
    for value in y_ticks:
        y = axes.y(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_format_value(value, percent)}</text>"
        )
    x_ticks = (value for value in choose_ticks(axes.x0, axes.x1, 5) if axes.x0 <= value <= axes.x1)
    for value in x_ticks:
        parts.append(
            f'<text class="tick" x="{axes.x(value):.1f}" y="{HEIGHT - BOTTOM + 15}" '
            f'text-anchor="middle">{value:g}</text>'
        )
    return parts


def _marks(axes: _Axes, marks: Sequence[Mark]) -> list[str]:
    """Draw marks in the order of x, labels above the lines; one goes below another in its way."""
    ends: list[float] = []
    """Right end of the last label in each row of labels."""
    parts: list[str] = []
    for mark in sorted(marks, key=lambda each: each.x):
        x, width = axes.x(mark.x), LETTER * len(mark.label)
        is_left = x + 3 + width > WIDTH  # there is no room to the right of the line
        start = x - 3 - width if is_left else x + 3
        row = next((index for index, end in enumerate(ends) if end < start), len(ends))
        ends[row : row + 1] = [start + width]
        y = TOP - 3 + 13 * row
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="tick" x="{x - 3 if is_left else x + 3:.1f}" y="{y}"'
            f"{' text-anchor="end"' * is_left}>{html.escape(mark.label)}</text>"
        )
    return parts


def _line(axes: _Axes, line: Series) -> str:
    points, classes = line.points, f"line s{line.color}" + " dashed" * line.is_dashed
    smooth = len(points) >= SMOOTH_FROM
    raw = _polyline(axes, downsample(points), classes + " faint" * smooth)
    if not smooth:
        return raw
    mean = _polyline(
        axes, downsample(compute_trailing_mean(points, max(5, len(points) // 20))), classes
    )
    return mean if line.is_dashed else raw + mean


def _polyline(axes: _Axes, points: Sequence[tuple[float, float]], classes: str) -> str:
    if len(points) == 1:
        x, y = axes.x(points[0][0]), axes.y(points[0][1])
        return f'<circle class="dot {classes}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
    path = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
    return f'<polyline class="{classes}" points="{path}"/>'


def _format_value(value: float, percent: bool) -> str:
    return f"{100 * value:.3g} %" if percent else f"{value:.3g}"
