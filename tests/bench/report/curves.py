"""The scaling: a table, and a plot with a panel for each scale, both axes logarithmic, in SVG."""

import math
import statistics
from xml.sax.saxutils import escape

from scaling import SERIES

from .numbers import seconds
from .table import markdown

STYLES = {  # color, dashes
    "snap": ("#1b7f5c", ""),
    "snap-daemon": ("#1b7f5c", "5 3"),
    "revert": ("#b5482a", ""),
    "revert-daemon": ("#b5482a", "5 3"),
}
PANEL, HEIGHT, LEFT, TOP, BOTTOM, GAP = 300, 300, 64, 62, 52, 44


def table(scales):
    """Medians as Markdown, and below what was left out."""
    lines, notes = [], ""
    for scale in scales:
        for point, kept in sorted(scale.samples.items()):
            least = min(len(values) for values in kept.values())
            lines.append([f"{point:,} {scale.title}", *[seconds(statistics.median(kept[name])) for name in SERIES], str(least)])
        for point, why in sorted(scale.left_out.items()):
            notes += f"Left out: {point:,} {scale.title} ({why}).\n"
    return markdown(["medians", *SERIES.values(), "samples"], lines) + ("\n" + notes if notes else "")


def render(scales):
    """The plot; all panels have the same vertical axis."""
    medians = {
        scale.name: {name: [(point, statistics.median(kept[name])) for point, kept in sorted(scale.samples.items())] for name in SERIES}
        for scale in scales
    }
    every = [value for panel in medians.values() for line in panel.values() for _, value in line]
    if not every:
        every = [1e-3]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
    high = max(high, low + 1)
    width = LEFT + len(scales) * (PANEL + GAP)

    def y(value):
        return TOP + (high - math.log10(value)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>',
        '<text x="12" y="20" font-size="14">Time for a snapshot and for a revert, medians (both axes logarithmic)</text>',
    ]
    at = LEFT
    for name, title in SERIES.items():
        out.append(f'<line x1="{at}" y1="38" x2="{at + 24}" y2="38" {stroke(name)}/>')
        out.append(f'<text x="{at + 30}" y="42">{escape(title.replace("…", name.split("-")[0]))}</text>')
        at += 60 + 7 * len(title)
    for number, scale in enumerate(scales):
        out += panel(scale, medians[scale.name], LEFT + number * (PANEL + GAP), y, (low, high), axis=number == 0)
    out.append("</svg>")
    return "\n".join(out) + "\n"


def panel(scale, lines, left, y, decades, axis):
    ends = math.log10(scale.points[0]), math.log10(scale.points[-1])

    def x(value):
        return left + (math.log10(value) - ends[0]) / (ends[1] - ends[0]) * PANEL

    out = []
    for decade in range(decades[0], decades[1] + 1):
        at = y(10.0**decade)
        out.append(f'<line x1="{left}" y1="{at:.1f}" x2="{left + PANEL}" y2="{at:.1f}" stroke="#ddd"/>')
        if axis:
            out.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{unit(decade)}</text>')
    for point in scale.points:
        at = x(point)
        out.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>')
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{point:,}</text>')
    out.append(f'<text x="{left + PANEL / 2}" y="{HEIGHT - 14}" text-anchor="middle">{escape(scale.title)}</text>')
    for name, line in lines.items():
        places = [(x(point), y(value)) for point, value in line]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        out.append(f'<polyline points="{path}" fill="none" {stroke(name)}/>')
        out += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.2" fill="{STYLES[name][0]}"/>' for px, py in places]
    return out


def stroke(name):
    color, dashes = STYLES[name]
    return f'stroke="{color}" stroke-width="1.6"' + (f' stroke-dasharray="{dashes}"' if dashes else "")


def unit(decade):
    """10 to the power of `decade` seconds, as it is said."""
    if decade >= 0:
        return f"{10**decade} s"
    return f"{10 ** (decade + 3)} ms" if decade >= -3 else f"{10 ** (decade + 6)} µs"
