"""The launcher: who is who, whose exit code counts, and nobody outlives a failure for long."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

LAUNCH = Path(__file__).parents[1] / "scripts" / "launch_local.sh"
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "AEJAX_COORDINATOR"}


def launch(script: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAUNCH, "3", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        env={**ENVIRONMENT, **more},
    )


def test_every_process_knows_which_it_is() -> None:
    done = launch('echo "$AEJAX_PROCESS/$AEJAX_PROCESSES $AEJAX_COORDINATOR"')
    assert done.returncode == 0
    said = [line.split() for line in sorted(done.stdout.splitlines())]
    assert [who for who, _ in said] == ["0/3", "1/3", "2/3"]
    assert len({where for _, where in said}) == 1


def test_the_first_failure_is_the_exit_code_and_ends_the_others() -> None:
    started = time.monotonic()
    done = launch(
        'if [ "$AEJAX_PROCESS" = 1 ]; then exit 7; fi; exec sleep 60', AEJAX_GRACE_SECONDS="0.2"
    )
    assert done.returncode == 7
    assert "process 1 of 3 ended with 7" in done.stderr
    assert time.monotonic() - started < 20


def test_a_request_to_stop_reaches_all(tmp_path: Path) -> None:
    script = f'trap "exit 5" TERM; touch {tmp_path}/$AEJAX_PROCESS; while :; do sleep 0.1; done'
    child = subprocess.Popen(
        [LAUNCH, "3", "sh", "-c", script], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 20
    while len(list(tmp_path.iterdir())) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 5


def test_a_wrong_call_says_how() -> None:
    done = subprocess.run([LAUNCH, "two", "true"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage:" in done.stderr
