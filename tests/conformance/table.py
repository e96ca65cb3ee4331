"""The table suite x setting in Markdown, from the newest rows of the results file."""

import sys
from pathlib import Path

from harness.report import COLUMNS, RESULTS, exclusions

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "CONFORMANCE.md"
SETTINGS = ["plain", "empty", "base", "layer", "snapshot", "revert"]
SUITES = ["pjdfstest", "fsx", "stress", "programs", "databases", "copyup", "concurrency"]


def newest():
    """(suite, setting) -> row: a full run counts for more than a quick one, then the newest."""
    rows = {}
    for line in RESULTS.read_text().splitlines()[1:]:
        row = dict(zip(COLUMNS, line.split("\t")))
        key = row["suite"], row["setting"]
        known = rows.get(key)
        if not known or row["mode"] == "full" or known["mode"] == "quick":
            rows[key] = row
    return rows


def table(rows):
    """Passed / failed / excluded for each suite and setting; a star marks a quick run."""
    lines = [
        "| suite | " + " | ".join(SETTINGS) + " |",
        "|---" * (len(SETTINGS) + 1) + "|",
    ]
    for suite in SUITES:
        cells = []
        for setting in SETTINGS:
            row = rows.get((suite, setting))
            star = "\\*" if row and row["mode"] == "quick" else ""
            cells.append(f"{row['passed']} / {row['failed']} / {row['excluded']}{star}" if row else "")
        lines.append(f"| {suite} | " + " | ".join(cells) + " |")
    shown = [row for key, row in rows.items() if key[1] in SETTINGS]
    commits = ", ".join(sorted({row["commit"] for row in shown if row["setting"] != "plain"}))
    kernels = ", ".join(sorted({row["kernel"].split("-")[0] for row in shown}))
    dates = ", ".join(sorted({row["time"][:10] for row in shown}))
    lines += ["", f"Passed / failed / excluded; \\* a quick run. Of {dates}, commit {commits}, Linux {kernels}."]
    return "\n".join(lines)


def reasons():
    """Every exclusion and its reason."""
    lines = ["| suite | settings | case | why |", "|---|---|---|---|"]
    words = {"*": "all", "[els]*": "on llfs", "dir": "a directory pointed at"}
    for suite, setting, case, reason in exclusions():
        case = case.replace("*", "\\*")
        lines.append(f"| {suite} | {words.get(setting, setting)} | {case} | {reason} |")
    return "\n".join(lines)


def replaced(text, name, content):
    """The document with what stands between two marks replaced."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, _, rest = text.partition(begin)
    _, mark, tail = rest.partition(end)
    if not mark:
        sys.exit(f"{DOCUMENT}: the marks of `{name}` are not there")
    return head + begin + content + "\n" + end + tail


def main():
    """Prints the table, or writes it into the document."""
    rows = newest()
    if sys.argv[1:] == ["--write"]:
        text = replaced(DOCUMENT.read_text(), "table", table(rows))
        DOCUMENT.write_text(replaced(text, "exclusions", reasons()))
    elif sys.argv[1:]:
        sys.exit("usage: table [--write]")
    else:
        print(table(rows))


if __name__ == "__main__":
    main()
