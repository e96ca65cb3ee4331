"""The table, as Markdown that reads well on a terminal too."""

from .numbers import amount, median, ratio, times


def backends(results, *, without=()):
    seen = []
    for by_backend in results["samples"].values():
        for name in by_backend:
            if name not in seen and name not in without:
                seen.append(name)
    order = ["plain", "llfs", "null FUSE", "keeping FUSE", "overlayfs", "fuse-overlayfs", "btrfs", "shadow git"]
    return sorted(seen, key=order.index)


def markdown(head, lines):
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]

    def cells(line):
        return "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([cells(head), rule, *map(cells, lines)]) + "\n"


def verdict(value, goal):
    if value is None or goal is None:
        return ""
    return "yes" if value <= goal else "no"


def against_plain(results, groups):
    others = backends(results, without=("plain", "llfs", "shadow git"))
    lines = []
    for group in (g for g in groups if g.kind == "files"):
        for row, what in group.rows.items():
            if row not in results["samples"]:
                continue
            reached = ratio(results, row, "llfs")
            lines.append([
                what.title, amount(median(results, row, "plain"), what.unit), amount(median(results, row, "llfs"), what.unit),
                times(reached), f"{what.goal:g}x" if what.goal else "", verdict(reached, what.goal),
                *[times(ratio(results, row, name)) for name in others],
            ])
    return markdown(["workload", "plain", "llfs", "ratio", "goal", "met", *others], lines) if lines else ""


def absolute(results, groups, kind):
    present = [(row, what) for g in groups if g.kind == kind for row, what in g.rows.items() if row in results["samples"]]
    if not present:
        return ""
    others = [n for n in backends(results) if n != "llfs" and any(n in results["samples"][row] for row, _ in present)]
    lines = []
    for row, what in present:
        mine = median(results, row, "llfs")
        lines.append([
            what.title, amount(mine, what.unit), amount(what.goal, what.unit) if what.goal else "", verdict(mine, what.goal),
            *[amount(median(results, row, name), what.unit) for name in others],
        ])
    return markdown(["whole command" if kind == "snapshots" else "llfs itself", "llfs", "goal", "met", *others], lines)


def about(machine, what):
    """A sentence: the machine, what was measured on it, and how busy it was."""
    return (
        f"{machine['cpus']} CPUs ({machine['cpu']}), {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
        f"{machine['filesystem']}; {what}; load {machine['load']:.1f} before, {machine['load_after']:.1f} after"
        f"{' (other programs were running: noisy)' if machine['load'] > 0.7 else ''}."
    )


def render(results, groups):
    machine = results["machine"]
    quick = " (quick: less data than the rows say)" if results["quick"] else ""
    files = f" {machine['files']:,} files;" if "files" in machine else ""
    what = f"{machine['llfs']};{files} medians of {results['rounds']} rounds{quick}"
    text = about(machine, what) + "\n\n"
    for part in (against_plain(results, groups), absolute(results, groups, "snapshots"), absolute(results, groups, "llfs")):
        if part:
            text += part + "\n"
    for name, why in results["skipped"].items():
        text += f"Left out: {name} ({why}).\n"
    for name, failures in results["failures"].items():
        for workload, message in failures.items():
            text += f"Failed: {name}: {workload}: {message}\n"
    return text
