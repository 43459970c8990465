"""A system that `lima2 up` keeps, as people and scripts meet it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from support import CONFIG, put
from watching import wait_for

from lima2_tango.cli.look import Look, look_at
from lima2_tango.cli.rundir import Phase, SystemState, read_state

LIMA2 = Path(sys.executable).with_name("lima2")
UP_S = 60.0
"""A system is up, or ended, within [s]."""


def lima2(*arguments: str | Path, home: Path) -> "subprocess.CompletedProcess[str]":
    """A command of `lima2`, whose systems are in `home`."""
    environment = {**os.environ, "LIMA2_HOME": str(home), "COLUMNS": "120"}
    return subprocess.run([LIMA2, *arguments], env=environment, capture_output=True, text=True, timeout=UP_S)


def write_config(file: Path, base: str = "simulator", **changes: Any) -> Path:
    """`config/<base>.yaml` with each `a__b=value` set; no conductor unless asked for."""
    content = yaml.safe_load((CONFIG / f"{base}.yaml").read_text(encoding="utf-8"))
    dotted = {"conductor__enabled": False, **changes}
    content = put(content, {path.replace("__", "."): value for path, value in dotted.items()})
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@dataclass
class Supervised:
    """One system and its `lima2 up`."""

    home: Path
    name: str
    process: "subprocess.Popen[bytes]"

    @property
    def folder(self) -> Path:
        return self.home / self.name

    @property
    def state(self) -> SystemState:
        state = read_state(self.folder)
        assert state is not None, self.output
        return state

    @property
    def output(self) -> str:
        return (self.home / "output").read_text()

    @property
    def events(self) -> list[str]:
        """Lines of the log, without their times."""
        lines = (self.folder / "logs" / "lima2.log").read_text().splitlines()
        return [line.partition(" ")[2] for line in lines]

    def wait_up(self, restarts: int = 0) -> None:
        """Up, after at least so many restarts."""

        def up() -> bool:
            assert self.process.poll() is None, self.output
            state = read_state(self.folder)
            if state is None or state.supervisor.pid != self.process.pid:  # what a killed one has left
                return False
            return state.phase is Phase.UP and state.restarts >= restarts

        wait_for(up, UP_S, "the system is up")

    def wait_event(self, text: str) -> str:
        """The first event that holds the text."""
        return str(wait_for(lambda: next((line for line in self.events if text in line), ""), UP_S, f"event: {text}"))

    def look(self) -> Look:
        return look_at(self.state)

    def pid(self, name: str) -> int:
        """A process by the name that the state file gives it."""
        return {part.name: part.pid for part in self.state.processes}[name]

    def kill(self, *names: str) -> None:
        """kill -9, all at once."""
        for pid in [self.pid(name) for name in names]:
            os.kill(pid, signal.SIGKILL)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End `lima2 up` with a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(UP_S)


@contextmanager
def kept_up(home: Path, config: Path) -> Generator[Supervised]:
    """`lima2 up CONFIG`, up; ended afterwards, and nothing of it left."""
    name = yaml.safe_load(config.read_text(encoding="utf-8"))["name"]
    home.mkdir(exist_ok=True)
    with (home / "output").open("wb") as output:
        process = subprocess.Popen(
            [LIMA2, "up", config],
            env={**os.environ, "LIMA2_HOME": str(home)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    made = Supervised(home, name, process)
    try:
        made.wait_up()
        yield made
    finally:
        if process.poll() is None:
            made.end()
    assert not of_folder(home), "something still runs"


def of_folder(folder: Path) -> list[str]:
    """Command lines of processes that work in a folder: it is in an argument or in the environment of each."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = [*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()]
        if any(str(folder) in word for word in words):
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def printed(result: "subprocess.CompletedProcess[str]") -> Any:
    """The JSON that a command printed."""
    return json.loads(result.stdout)
