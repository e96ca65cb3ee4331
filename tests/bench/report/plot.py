"""The plot: ratios to the plain directory, as bars on a logarithmic scale, in SVG."""

import math
from xml.sax.saxutils import escape

from .numbers import ratio, times
from .table import backends

COLORS = {"llfs": "#1b7f5c", "null FUSE": "#bbbbbb", "keeping FUSE": "#888888", "overlayfs": "#8aa4c8", "fuse-overlayfs": "#d9a441", "btrfs": "#a08bb5"}
LABEL, WIDTH, BAR, GAP, TOP = 300, 900, 11, 12, 56


def render(results, groups):
    names = backends(results, without=("plain", "shadow git"))
    rows = []
    for group in (g for g in groups if g.kind == "files"):
        for row, what in group.rows.items():
            values = [(name, ratio(results, row, name)) for name in names]
            if any(value for _, value in values):
                rows.append((what, [(name, value) for name, value in values if value]))
    every = [value for _, values in rows for _, value in values]
    low, high = min([0.25, *every]), max([4.0, *every])

    def x(value):
        share = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return LABEL + share * (WIDTH - LABEL - 70)

    height = TOP + sum(len(values) * BAR + GAP for _, values in rows) + 30
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        '<text x="12" y="20" font-size="14">Time as a multiple of the plain directory\'s (logarithmic; less is better)</text>',
    ]
    at = LABEL
    for name in names:
        out.append(f'<rect x="{at}" y="30" width="10" height="10" fill="{COLORS.get(name, "#888")}"/>')
        out.append(f'<text x="{at + 14}" y="39">{escape(name)}</text>')
        at += 30 + 7 * len(name)
    out.append(f'<text x="{at}" y="39">| goal</text>')
    tick = 10 ** math.floor(math.log10(low))
    while tick <= high:
        for value in (tick, tick * 3):
            if low <= value <= high:
                strong = "#444" if value == 1 else "#ddd"
                out.append(f'<line x1="{x(value):.1f}" y1="{TOP - 6}" x2="{x(value):.1f}" y2="{height - 22}" stroke="{strong}"/>')
                out.append(f'<text x="{x(value):.1f}" y="{height - 8}" text-anchor="middle">{value:g}x</text>')
        tick *= 10
    y = TOP
    for what, values in rows:
        middle = y + len(values) * BAR / 2 + 4
        out.append(f'<text x="{LABEL - 8}" y="{middle:.0f}" text-anchor="end">{escape(what.title)}</text>')
        for i, (name, value) in enumerate(values):
            left, right = sorted((x(1), x(value)))
            color = COLORS.get(name, "#888")
            out.append(f'<rect x="{left:.1f}" y="{y + i * BAR}" width="{max(1, right - left):.1f}" height="{BAR - 2}" fill="{color}"/>')
            out.append(f'<text x="{right + 4:.1f}" y="{y + i * BAR + 9}" font-size="9">{times(value)}</text>')
        if what.goal:
            out.append(
                f'<line x1="{x(what.goal):.1f}" y1="{y - 2}" x2="{x(what.goal):.1f}" y2="{y + len(values) * BAR}" '
                'stroke="#c0392b" stroke-width="1.5"/>'
            )
        y += len(values) * BAR + GAP
    out.append("</svg>")
    return "\n".join(out) + "\n"
