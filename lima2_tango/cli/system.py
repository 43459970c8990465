"""A whole Lima2 system on this machine: Tango database, one MPI job of device servers, conductor."""

import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from lima2_tango.client.database import NotReadyError, wait_for_devices

from .config import SERVER, SystemConfig
from .database import SERVERS
from .process import Child, LaunchError, environment, free_port, program, tail

POLL = 0.05
"""Between two questions [s]."""
CONDUCTOR_TIMEOUT_S = 30
"""How long the conductor waits for an answer of a device [s]."""
WEB_TIMEOUT_S = 1.0
"""How long the page may take to accept a connection [s]."""


class System:
    """A whole Lima2 system on this machine, from database to conductor; a context manager that leaves nothing running.

    `folder` takes the database's file and the logs. Processes listen on `config.listen` only; but Open MPI, and MPICH's
    `mpiexec` where the configuration names it, also open ports for their own traffic.
    """

    def __init__(self, config: SystemConfig, folder: Path, log_level: str = "info") -> None:
        self.config = config
        self.folder = folder.absolute()
        self.control = config.control.device
        self.receivers = [member.device for member in config.receivers]
        self.conductor_port = config.conductor.port or free_port(config.listen)
        self.web_port = config.web.port or free_port("127.0.0.1")
        self.logs = {
            "database": self.folder / "logs" / "database.log",
            "job": self.folder / "logs" / "job.log",
            "conductor": self.folder / "logs" / "conductor.log",
            "web": self.folder / "logs" / "web.log",
        }
        self._log_level = log_level
        self._database = SERVERS[config.database.kind](config.database, self.folder, list(config.entries()))
        self._job: Child | None = None
        self._jobs = 0
        """Jobs started again."""
        self._conductor: Child | None = None
        self._web: Child | None = None

    @property
    def tango_host(self) -> str:
        """`host:port` of the Tango database."""
        return self._database.tango_host

    @property
    def conductor_url(self) -> str:
        return f"http://{self.config.listen}:{self.conductor_port}"

    @property
    def children(self) -> dict[str, Child]:
        """What was started, by what it is: database, job, conductor, web."""
        parts = {"database": self._database.child, "job": self._job, "conductor": self._conductor, "web": self._web}
        return {name: child for name, child in parts.items() if child is not None}

    @property
    def job(self) -> subprocess.Popen[bytes]:
        """The process of the MPI job (mpiexec, or the server itself where one instance does everything)."""
        return self._running(self._job, "the job").popen

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; `wait_ready` tells when it answers. What was started is stopped where a part fails."""
        try:
            self.start_database()
            self.start_job()
            if self.config.conductor.enabled:
                self.start_conductor()
            if self.config.web.enabled:
                self.start_web()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything, in the order that lets each part say goodbye to the next; safe twice."""
        self.stop_web()
        self.stop_conductor()
        self.stop_job()
        self._database.stop()

    def start_database(self) -> None:
        """Return once it answers and knows the devices."""
        self._database.start()

    def restart_database(self) -> None:
        """Start the database that died, where it was; returns once it answers. The devices go on meanwhile."""
        self._database.start_again()

    def start_job(self) -> None:
        """Start the device servers: one rank an instance, the control's first. Each job has a log of its own."""
        if self._job is not None:
            self._jobs += 1
            self.logs["job"] = self.folder / "logs" / f"job_{self._jobs}.log"
        self._job = Child("the job", self._job_command(), self._environment(), self.logs["job"])

    def stop_job(self) -> None:
        if self._job is not None:
            self._job.stop()

    def kill_job(self) -> None:
        """SIGKILL for every process of the job, as a crash of the machine would."""
        if self._job is not None:
            self._job.kill()

    def start_conductor(self) -> None:
        """The conductor's own application, as `lima2-conductor start` runs it but on `config.listen` only."""
        settings = {
            "LIMA2_TOPOLOGY": str(self.config.conductor.topology),
            "LIMA2_CONTROL_URL": self.control,
            "LIMA2_RECEIVER_URLS": ",".join(self.receivers),
            "LIMA2_TANGO_TIMEOUT": str(CONDUCTOR_TIMEOUT_S),
            "LIMA2_LOG_LEVEL": self._log_level,
            "LIMA2_LOG_PATH": str(self.folder / "logs" / "conductor_debug.log"),
        }
        address = ["--host", self.config.listen, "--port", str(self.conductor_port)]
        command = [sys.executable, "-m", "uvicorn", "lima2.conductor.webservice.main:app", *address]
        self._conductor = Child("the conductor", command, self._environment(**settings), self.logs["conductor"])

    def kill_conductor(self) -> None:
        """End it at once: a conductor that waits for devices which died in a run waits for ever."""
        if self._conductor is not None:
            self._conductor.kill()

    def stop_conductor(self) -> None:
        if self._conductor is not None:
            self._conductor.stop()

    def start_web(self) -> None:
        """The page, which looks on; it waits for the devices by itself."""
        web = self.config.web
        where = ["--listen", web.listen, "--port", str(self.web_port)]
        files = {"--token-file": web.token_file, "--certificate": web.certificate, "--key": web.key}
        tokens = [word for option, file in files.items() if file for word in (option, file)]
        names = [word for name in web.names for word in ("--name", name)]
        receivers = [word for name in self.receivers for word in ("--receiver", name)]
        what = ["--device", self.control, "--tango-host", self.tango_host, *receivers, "--title", self.config.name]
        self._web = Child(
            "the page", [program("lima2"), "web", *what, *where, *tokens, *names], self._environment(), self.logs["web"]
        )

    def stop_web(self) -> None:
        if self._web is not None:
            self._web.stop()

    @property
    def web_url(self) -> str:
        """Where a browser of this computer finds the page; empty without one."""
        host, port = self._web_address
        shown = f"[{host}]" if ":" in host else host
        return f"{self.config.web.scheme}://{shown}:{port}" if self.config.web.enabled else ""

    @property
    def _web_address(self) -> tuple[str, int]:
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        return own.get(self.config.web.listen, self.config.web.listen), self.web_port

    def web_ready(self) -> bool:
        """The page is open to browsers."""
        try:
            with socket.create_connection(self._web_address, WEB_TIMEOUT_S):
                return True
        except OSError:
            return False

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return once all devices answer `ping` and the conductor its `/state`.

        Raises LaunchError with the end of the log of who did not.
        """
        deadline = time.monotonic() + timeout_s
        job = self._running(self._job, "the job")
        try:
            wait_for_devices(self.tango_host, self.config.devices, timeout_s, job.check)
        except NotReadyError as error:
            raise LaunchError(f"{error}{tail(job.log)}") from error
        if self._conductor is not None:
            self._wait_for_conductor(self._conductor, deadline)

    def _wait_for_conductor(self, conductor: Child, deadline: float) -> None:
        while not self.conductor_ready():
            conductor.check()
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"the conductor at {self.conductor_url} did not see all devices in time{tail(conductor.log)}"
                )
            time.sleep(POLL)

    def conductor_ready(self) -> bool:
        """The conductor answers and sees all devices."""
        connection = http.client.HTTPConnection(self.config.listen, self.conductor_port, timeout=CONDUCTOR_TIMEOUT_S)
        try:
            connection.request("GET", "/state")
            response = connection.getresponse()
            return response.status == http.HTTPStatus.OK and b'"OFFLINE"' not in response.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _job_command(self) -> list[str]:
        ranks = [self._rank_command(instance) for instance in self.config.instances]
        if len(ranks) == 1:
            return ranks[0]
        command = [self._launcher()]
        for position, rank in enumerate(ranks):
            command += [":"] * (position > 0) + ["-n", "1", *rank]
        return command

    def _launcher(self) -> str:
        """MPICH's forking launcher: its other one opens a port, and kills the ranks that outlive one (decision 10)."""
        if self.config.launcher:
            return program(self.config.launcher)
        forking = Path(sys.prefix) / "bin" / "mpiexec.gforker"
        return str(forking) if forking.exists() else program("mpiexec")

    def _rank_command(self, instance: str) -> list[str]:
        logs = ["--log-level", self._log_level, "--log-file-path", str(self.folder / "logs")]
        name = ["--log-file-filename", f"{instance}_%N.log"]
        return [program(SERVER), instance, *logs, *name, "-ORBendPoint", f"giop:tcp:{self.config.listen}:"]

    def _environment(self, **extra: str) -> dict[str, str]:
        open_mpi = {
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        }
        shared_memory = {"UCX_TLS": "posix,sysv,self"}  # all ranks are here: nothing needs the network
        return environment(TANGO_HOST=self.tango_host, **open_mpi, **shared_memory, **extra)

    @staticmethod
    def _running(child: Child | None, name: str) -> Child:
        if child is None:
            raise LaunchError(f"{name} was not started; call start() first")
        return child
