"""A Slurm cluster of this one computer: munged, slurmctld and slurmd as processes of a test, with its own files."""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from two_hosts import wait_for

from lima2_tango.cli.process import Child, environment, free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo")
HERE = "127.0.0.1"
READY_S = 30.0
TASKS = 16
"""Of the node: as many as it is told that it has cores, which Slurm does not check."""
CONFIG = """ClusterName=here
SlurmctldHost={name}({here})
SlurmctldPort={control_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=5
NodeName={name} NodeAddr={here} CPUs={tasks} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    folder: Path
    settings: dict[str, str]
    """Environment by which Slurm's commands find this cluster."""

    def said(self, *command: str | Path) -> str:
        """What a command of Slurm's prints; fails the test with its error."""
        words = [str(word) for word in command]
        done = subprocess.run(words, env=self.settings, cwd=self.folder, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}{self.logs()}"
        return done.stdout.strip()

    def submit(self, script: Path, *options: str, tango_host: str) -> str:
        """`sbatch` from the repository's folder; the job's number."""
        folder = script.parents[1]
        output = ["--parsable", f"--output={self.folder}/job.log"]
        surroundings = {**self.settings, "TANGO_HOST": tango_host}
        words = ["sbatch", *output, *options, str(script)]
        done = subprocess.run(words, env=surroundings, cwd=folder, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{done.stderr}{self.logs()}"
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """RUNNING and the like; empty once Slurm has done with the job."""
        return self.said("squeue", "--noheader", "--states=PENDING,RUNNING,COMPLETING", "--format=%T", f"--jobs={job}")

    def logs(self) -> str:
        """The ends of all logs, for the error of a test."""
        texts = {path.name: path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.log"))}
        return "".join(f"\n== {name}\n{text}" for name, text in texts.items())


@contextmanager
def slurm_here(folder: Path) -> Generator[Slurm]:
    """Skips the test where Slurm is not installed."""
    if os.geteuid() != 0 or any(shutil.which(program) is None for program in PROGRAMS):
        pytest.skip("this needs root and Debian's Slurm (apt-get install slurm-wlm)")
    folder.chmod(0o755)
    config = folder / "slurm.conf"
    ports = {"control_port": free_port(HERE), "node_port": free_port(HERE)}
    name = socket.gethostname().partition(".")[0]
    config.write_text(CONFIG.format(folder=folder, here=HERE, name=name, tasks=TASKS, **ports))
    for state in ("state", "spool"):
        (folder / state).mkdir()
    slurm = Slurm(folder, environment(SLURM_CONF=str(config)))
    started: list[Child] = []
    try:
        _start(slurm, name, started)
        yield slurm
    finally:
        for daemon in reversed(started):
            daemon.stop()


def _start(slurm: Slurm, name: str, started: list[Child]) -> None:
    folder = slurm.folder
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    files = [f"--{what}-file={folder}/munge.{what}" for what in ("pid", "log", "seed", "key")]
    socket_file = folder / "munge.socket"

    def start(command: Sequence[str]) -> None:
        started.append(Child(command[0], command, slurm.settings, folder / f"{command[0]}.log"))

    start(["munged", "--foreground", "--force", f"--socket={socket_file}", *files])
    wait_for(socket_file.exists, READY_S, "munged listens", slurm.logs)
    start(["slurmctld", "-D", "-f", str(folder / "slurm.conf")])
    start(["slurmd", "-D", "-N", name, "-f", str(folder / "slurm.conf")])
    wait_for(lambda: _idle(slurm), READY_S, "the node is idle", slurm.logs)


def _idle(slurm: Slurm) -> bool:
    try:
        return slurm.said("sinfo", "--noheader", "--format=%T") == "idle"
    except AssertionError:  # slurmctld does not answer yet
        return False
