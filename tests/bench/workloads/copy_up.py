"""The first write into a large file of the base."""

from .group import Group, Row


def poke(m):
    m.time("poke", m.ops("poke", m.root / "file.img"))


GROUPS = [Group("poke", {"poke": Row("first 1-byte write into a 1 GiB file of the base", 3)}, poke, base="big")]
