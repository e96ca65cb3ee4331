"""git in the tree."""

from .group import Group, Row


def git(m):
    command = ["git", "-C", m.root]
    m.do(*command, "status", "--short")
    m.time("status", [*command, "status", "--short"])
    m.time("status-again", [*command, "status", "--short"])
    m.time("checkout", [*command, "checkout", "-q", "bench-other"])
    m.do(*command, "checkout", "-q", "bench-main")


GROUPS = [
    Group("git", {
        "status": Row("git status (2nd)", 1.2),
        "status-again": Row("git status (3rd)"),
        "checkout": Row("git checkout of 500 files", 2),
    }, git),
]
