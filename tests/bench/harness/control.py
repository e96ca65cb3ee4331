"""The daemon's control socket: for what would be lost in the start of a program, or is done thousands of times."""

import socket
import time
from pathlib import Path

from .proc import Failed

LIMIT = 60  # seconds that the daemon may take for an answer


class Control:
    """A connection to the daemon that serves `root`. The messages: ctl/src/protocol, version 2."""

    def __init__(self, ctx, root):
        self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.stream.settimeout(LIMIT)
        hello = b"\x83" + text("magic") + text("llfs-control") + text("version") + b"\x02" + text("client") + text("bench")
        for path in Path(ctx.env["XDG_RUNTIME_DIR"], "llfs").glob("*.sock"):
            try:
                self.stream.connect(str(path))
            except ConnectionRefusedError:
                continue  # left behind by a daemon that is gone
            welcome = self.ask(hello)
            if str(root).encode() in welcome:
                return
            self.stream.close()
            self.stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.stream.settimeout(LIMIT)
        raise Failed(f"no daemon answers for {root}")

    def snap(self, name):
        """Takes a snapshot; seconds from sending the request to the answer."""
        request = b"\x81" + text("snap") + b"\x82" + text("name") + text(name) + text("message") + b"\xc0"
        begun = time.perf_counter()
        answer = self.ask(request)
        took = time.perf_counter() - begun
        if not answer.startswith(b"\x81" + text("snap")):
            raise Failed(f"snap {name}: {answer[:200]!r}")
        return took

    def ask(self, body):
        """One message and the one that answers it, both MessagePack."""
        self.stream.sendall(len(body).to_bytes(4, "little") + body)
        return self.exactly(int.from_bytes(self.exactly(4), "little"))

    def exactly(self, length):
        got = b""
        while len(got) < length:
            part = self.stream.recv(length - len(got))
            if not part:
                raise Failed("the daemon closed the control connection")
            got += part
        return got

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()


def text(value):
    """A MessagePack string of at most 255 bytes."""
    data = value.encode()
    return (bytes([0xA0 | len(data)]) if len(data) < 32 else bytes([0xD9, len(data)])) + data
