"""A shell stands in a directory while the tree is reverted below its feet."""

import contextlib
import os
import select
import subprocess
import time

from harness.shell import Failed, stop_group


class Shell:
    """A bash that stays where it is and answers one line at a time."""

    def __init__(self, directory):
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command):
        """Runs a command in the shell itself; returns (exit status, output)."""
        self.process.stdin.write(f"{command}\necho \"=$?=\"\n".encode())
        self.process.stdin.flush()
        text = b""
        deadline = time.monotonic() + 30
        while not text.endswith(b"=\n") or text.count(b"=") < 2:
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise Failed(f"the shell does not answer to {command!r}; so far {text!r}")
            more = os.read(self.process.stdout.fileno(), 4096)
            if not more:
                raise Failed(f"the shell ended at {command!r}: {text!r}")
            text += more
        body, _, status = text[:-2].rpartition(b"=")
        return int(status), body.decode()

    def expects(self, command, output):
        """A command that has to succeed with this output."""
        status, said = self.run(command)
        if status != 0 or said.strip() != output:
            raise Failed(f"{command!r} in the shell: exit status {status}, {said!r} instead of {output!r}")

    def close(self):
        stop_group(self.process)


@contextlib.contextmanager
def shell_in(directory):
    """A shell whose current directory this is."""
    shell = Shell(directory)
    try:
        yield shell
    finally:
        shell.close()


def prepare(place, name):
    """A directory with two files and a directory in it, and a snapshot of that."""
    directory = place.directory / name / "inner"
    directory.mkdir(parents=True)
    (directory / "a").write_text("first\n")
    (directory / "b").write_text("second\n")
    (directory / "sub").mkdir()
    (directory / "sub" / "c").write_text("third\n")
    place.llfs.ctl("snap", name)
    return directory


def changed(place, _):
    """The shell's own directory is changed, moved away, and reverted."""
    directory = prepare(place, "stands")
    with shell_in(directory) as shell:
        shell.expects("cat a; ls", "first\na\nb\nsub")
        shell.run("echo changed > a; rm b; echo new > n; rm -r sub; ls; cat n; cat b")
        os.rename(directory, directory.parent / "moved")
        place.llfs.ctl("revert", "stands")
        shell.expects("cat a b sub/c; ls", "first\nsecond\nthird\na\nb\nsub")
        shell.expects("test ! -e n && pwd -P", str(directory))
        shell.expects("echo again > n && cat n && rm n && mkdir m && cd m && cd .. && rmdir m", "again")
        shell.expects("cd ../inner && ls", "a\nb\nsub")


def removed(place, _):
    """The directory the shell stands in is removed; the revert brings it back, for everybody.

    For the kernel a removed directory stays dead for those who stand in it, on any filesystem:
    the shell has to enter it again. By its path it has to be as good as ever.
    """
    directory = prepare(place, "removed")
    with shell_in(directory) as shell:
        shell.expects("cat a", "first")
        subprocess.run(["rm", "-r", directory.parent], check=True, timeout=30)
        place.llfs.ctl("revert", "removed")
        if (directory / "a").read_text() != "first\n" or sorted(os.listdir(directory)) != ["a", "b", "sub"]:
            raise Failed("the directory is not what it was")
        (directory / "new").write_text("made after the revert\n")
        (directory / "sub" / "new").mkdir()
        shell.expects(f"cd {directory} && cat a new && touch t && ls", "first\nmade after the revert\na\nb\nnew\nsub\nt")


def newer(place, _):
    """The directory the shell stands in did not exist at the snapshot: it is gone like any other."""
    prepare(place, "newer")
    directory = place.directory / "newer" / "later"
    directory.mkdir()
    (directory / "f").write_text("f\n")
    with shell_in(directory) as shell:
        shell.expects("ls", "f")
        place.llfs.ctl("revert", "newer")
        status, said = shell.run("cat f")
        if status == 0:
            raise Failed(f"the shell still reads what was reverted: {said!r}")
        status, _ = shell.run("echo x > g")
        if status == 0 or os.path.lexists(directory):
            raise Failed("the shell made a file in a directory that is gone")
        shell.expects(f"cd {directory.parent / 'inner'} && cat a", "first")
