"""Medians, ratios, and how they are written."""

import statistics


def median(results, row, backend):
    """The median of all samples of all rounds, or None."""
    samples = [v for values in results["samples"].get(row, {}).get(backend, []) for v in values]
    return statistics.median(samples) if samples else None


def ratio(results, row, backend):
    """The median over the rounds of (backend's median in the round / the plain directory's in the same round): what
    disturbs the machine for longer than a round disturbs both."""
    mine, plain = (results["samples"].get(row, {}).get(name, []) for name in (backend, "plain"))
    pairs = [(statistics.median(a), statistics.median(b)) for a, b in zip(mine, plain) if a and b]
    return statistics.median(a / b for a, b in pairs) if pairs else None


def seconds(value):
    if value is None:
        return ""
    if value >= 10:
        return f"{value:.0f} s"
    if value >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value * 1000:.0f} ms"


def size(value):
    if value is None:
        return ""
    return f"{value / (1 << 20):.1f} MiB" if abs(value) >= 1 << 20 else f"{value:.0f} B"


def amount(value, unit):
    return {"B": size, "x": times}.get(unit, seconds)(value)


def times(value):
    if value is None:
        return ""
    return f"{value:.2f}x" if value < 10 else f"{value:,.0f}x"
