"""`lima2 demo`, as a person runs it."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from watching import wait_for

LIMA2 = Path(sys.executable).with_name("lima2")


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that work in a folder: it is in an argument or in the environment of each."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        arguments = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        if any(str(folder) in argument for argument in arguments):
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def demo(folder: Path, log: Path, frames: int) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        command = [LIMA2, "demo", "--frames", str(frames), "--folder", folder]
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)


def test_every_frame_is_verified_and_nothing_keeps_running(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demo(folder, tmp_path / "log", frames=5) as process:
        code = process.wait(100)
    output = (tmp_path / "log").read_text()
    assert code == 0, output
    assert "every frame and every statistic verified" in output
    assert (folder / "frame_00002.png").stat().st_size > 10_000
    assert sorted(path.name for path in (folder / "data").iterdir()) == [
        "demo_0_00000.h5",
        "demo_1_00000.h5",
        "demo_master.h5",
    ]
    assert not (folder / "input").exists()
    assert not processes_of(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_it_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "demo"
    with demo(folder, tmp_path / "log", frames=200) as process:
        wait_for(lambda: len(processes_of(folder / "system")) >= 4, 60, "the demo's system")
        process.send_signal(number)
        assert process.wait(30) != 0
    assert not processes_of(folder)
    assert not (folder / "input").exists()
    assert "Traceback" not in (tmp_path / "log").read_text()
