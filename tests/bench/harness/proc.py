"""Running processes: always with a time limit, and timed from before the start to after the end."""

import os
import signal
import subprocess
import tempfile
import threading
import time

LIMIT = 600  # seconds, for any single process


class Failed(Exception):
    """A process that failed: what it was and the last it said."""


def run(argv, env, cwd=None, limit=LIMIT, input=None):
    """Runs to the end, untimed; its output as text."""
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(
            argv, env=env, cwd=cwd, timeout=limit, input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{argv[0]}: no end within {limit} s") from None
    except OSError as error:
        raise Failed(f"{argv[0]}: {error}") from None
    if done.returncode != 0:
        raise Failed(told(argv, done.returncode, done.stderr or done.stdout))
    return done.stdout


def timed(argv, env, limit=LIMIT, output=None):
    """Wall seconds from before posix_spawn to after wait: the whole command, as somebody who types it waits for it. What it
    prints goes to the file `output`, if one is given."""
    argv = [str(a) for a in argv]
    with tempfile.TemporaryFile() as said:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0) if output is None
            else (os.POSIX_SPAWN_DUP2, output.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, said.fileno(), 2),
        ]
        begun = time.perf_counter()
        pid = os.posix_spawnp(argv[0], argv, env, file_actions=actions, setpgroup=0)
        late = threading.Timer(limit, lambda: os.killpg(pid, signal.SIGKILL))
        late.daemon = True
        late.start()
        try:
            _, status = os.waitpid(pid, 0)
            took = time.perf_counter() - begun
        except BaseException:
            # Interrupted: what is left of it would keep the mount busy.
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        finally:
            late.cancel()
        if status != 0:
            said.seek(0)
            text = said.read().decode(errors="replace")
            raise Failed(told(argv, os.waitstatus_to_exitcode(status), text))
        return took


def together(argvs, env, limit=LIMIT):
    """Wall seconds from before the first of several commands is started to the end of the last; each must succeed."""
    argvs = [[str(a) for a in argv] for argv in argvs]
    running = []
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        try:
            for argv in argvs:
                running.append(subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said))
            codes = [process.wait(timeout=max(0, begun + limit - time.perf_counter())) for process in running]
            took = time.perf_counter() - begun
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failed(str(error)) from None
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        for argv, code in zip(argvs, codes):
            if code != 0:
                said.seek(0)
                raise Failed(told(argv, code, said.read().decode(errors="replace")))
        return took


def told(argv, code, text):
    """A failure in one line: which program with which last arguments, and the beginning of what it said."""
    said = " ".join(text.split())[:300] or "no message"
    return f"{os.path.basename(argv[0])} {' '.join(argv[-3:])[-80:]}: exit {code}: {said}"


def drop_caches():
    """Makes the kernel forget clean pages, dentries and inodes; False without the right to."""
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3\n")
        return True
    except OSError:
        return False
