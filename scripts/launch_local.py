"""What launch_local.sh does; the standard library only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

USAGE = "usage: scripts/launch_local.sh PROCESSES COMMAND [ARGUMENT ...]"
LOOK_SECONDS = 0.05


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or not arguments[0].isdigit() or int(arguments[0]) < 1:
        print(USAGE, file=sys.stderr)
        return 2
    count, command = int(arguments[0]), arguments[1:]
    grace = float(os.environ.get("AEJAX_GRACE_SECONDS", "10"))
    together = {
        "AEJAX_COORDINATOR": f"127.0.0.1:{free_port()}",
        **os.environ,
        "AEJAX_PROCESSES": str(count),
    }
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    for number in range(count):
        own = {**together, "AEJAX_PROCESS": str(number)}
        children.append(subprocess.Popen(command, env=own))

    code, kill_at = 0, float("inf")
    while any(child.poll() is None for child in children):
        for number, child in enumerate(children):
            if child.poll() and not code:
                # A process that a signal ended: as a shell would say it.
                code = child.returncode if child.returncode > 0 else 128 - child.returncode
                message = f"launch_local: process {number} of {count} ended with {code}"
                print(message, file=sys.stderr, flush=True)
                kill_at = time.monotonic() + grace
        if time.monotonic() >= kill_at:
            pass_on(signal.SIGKILL, None)
        time.sleep(LOOK_SECONDS)
    return code or max((abs(child.returncode) for child in children), default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
