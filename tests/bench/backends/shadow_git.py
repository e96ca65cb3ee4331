"""A shadow git repository beside a plain copy of the base: how agents' own checkpoints work."""

from harness.proc import run
from .backend import Backend, Session


class ShadowSession(Session):
    def script(self, text, name):
        git = f'git --git-dir="{self.where}/shadow" --work-tree="{self.root}"'
        return ["sh", "-ec", text.replace("GIT", git).replace("NAME", name)]

    def snap(self, name):
        return self.script("GIT add -A; GIT commit -q --allow-empty --no-verify -m NAME; GIT tag NAME", name)

    def revert(self, name):
        return self.script("GIT reset -q --hard NAME; GIT clean -fdq", name)


class ShadowGit(Backend):
    name = "shadow git"
    snapshots = True
    workloads = False

    def open(self, ctx, base, where):
        run(["cp", "-a", "--reflink=never", base.path, where / "tree"], ctx.env)
        run(["git", "init", "-q", "--bare", where / "shadow"], ctx.env)
        session = ShadowSession(ctx, where / "tree", where)
        run(session.snap("first"), ctx.env)
        return session
