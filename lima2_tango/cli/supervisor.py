"""Keeps a system up: sees who died, lets the survivors close their files, clears what was left, starts again.

One thread, one loop, one look at everything each 50 ms. What a death costs is decision 10.
"""

import json
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import FrameType

import psutil

from lima2_tango.client.database import answers_ping
from lima2_tango.client.supervision import at_once, database_answers, stop_run, unexport, write_parameters

from .config import SERVER
from .disk import suspicion
from .events import Events
from .guard import is_frozen, wake
from .job import Job
from .process import LaunchError, tail
from .restarts import RestartBudget
from .rundir import Phase, Running, SystemState, write_state
from .system import System

LOOK = 0.05
"""Between two looks at the processes [s]."""
READY_TIMEOUT = 60.0
"""All devices answer within, from the start of the job [s]."""
DATABASE_TIMEOUT = 5.0
"""Devices that run are found again in a database that was restarted within [s]; else they are started again too."""
RUN_TIMEOUT = 5.0
"""How long the end of a system waits for a run's data to be complete [s]."""
ANSWER_TIMEOUT = 1.0
"""A database that has not answered within this is not waited for at the end of a system [s]."""
LAUNCHER_TIMEOUT = 5.0
"""How long the launcher of a job that died may take to say why [s]."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Runs one system until it is told to stop."""

    def __init__(self, system: System, state: SystemState, events: Events) -> None:
        self._system = system
        self._state = state
        self._events = events
        self._budget = RestartBudget(system.config.restart)
        self._stop = Event()
        self._told_by = ""
        self._job: Job | None = None
        self._past: list[tuple[Job, float]] = []
        """Jobs that died, until their launchers have said why."""
        self._begun = self._patience = 0.0
        """When what is being started had to be, and how long it may take [s]."""
        self._fresh = True
        """The control has still to be given the parameters of the configuration."""

    @property
    def _servers(self) -> list[str]:
        return [f"{SERVER}/{instance}" for instance in self._system.config.instances]

    def run(self) -> None:
        """Start, keep up, and end with everything ended; raises LaunchError where it cannot start or gives up."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)
        failure: LaunchError | None = None
        try:
            self._start()
            while not self._stop.wait(LOOK):
                self._look()
        except LaunchError as error:
            failure = error
        finally:
            self._end(str(failure).splitlines()[0] if failure else "")
        if failure is not None:
            raise failure

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._told_by = signal.Signals(number).name
        self._stop.set()

    def _start(self) -> None:
        self._note("starting", phase=Phase.STARTING)
        self._begin(READY_TIMEOUT)
        self._system.start_database()
        self._start_job()
        self._start_conductor()
        if self._system.config.web.enabled:
            self._system.start_web()
        self._note(f"the Tango database is {self._system.tango_host}")

    def _start_job(self) -> None:
        self._unexport()
        self._system.start_job()
        self._fresh = True
        self._job = Job(self._system.children["job"], self._system.config.instances, self._system.folder / "logs")

    def _start_conductor(self) -> None:
        if self._system.config.conductor.enabled:
            self._system.start_conductor()

    def _look(self) -> None:
        """One step: one of those who died is replaced."""
        self._listen_to_the_past()
        assert self._job is not None  # started before the first look
        if self._job.look():
            self._write()
        if self._state.phase is not Phase.UP:  # it may die before it is up, and could not tell afterwards
            self._job.note_segments()
        children = self._system.children
        if "database" in children and (ended := children["database"].ended):
            self._on_database(ended)
        elif death := self._job.death():
            self._on_job(death)
        elif "conductor" in children and (ended := children["conductor"].ended):
            self._on_conductor(ended)
        elif "web" in children and (ended := children["web"].ended):
            self._on_web(ended)
        elif self._state.phase is not Phase.UP:
            self._wait_ready()

    def _spend(self, why: str, log: Path) -> None:
        """A death while starting is final: it would die again."""
        if self._state.phase is Phase.STARTING:
            raise LaunchError(f"{why}: the system cannot start{tail(log)}")
        self._budget.spend(why)
        self._note(why, phase=Phase.RESTARTING, restarts=self._budget.total)

    def _on_database(self, ended: str) -> None:
        self._spend(ended + suspicion(self._system.folder), self._system.logs["database"])
        self._begin(DATABASE_TIMEOUT)
        self._system.restart_database()
        self._note("the Tango database answers again; the devices went on without it")

    def _on_job(self, death: str) -> None:
        assert self._job is not None  # it died
        self._spend(death, self._system.logs["job"])
        self._begin(READY_TIMEOUT)
        self._system.kill_conductor()
        self._note(self._job.bury())
        self._past.append((self._job, time.monotonic() + LAUNCHER_TIMEOUT))
        self._start_job()
        self._start_conductor()

    def _on_conductor(self, ended: str) -> None:
        self._spend(ended, self._system.logs["conductor"])
        self._begin(READY_TIMEOUT)
        self._start_conductor()

    def _on_web(self, ended: str) -> None:
        self._spend(ended, self._system.logs["web"])
        self._begin(READY_TIMEOUT)
        self._system.start_web()

    def _begin(self, patience: float) -> None:
        self._begun, self._patience = time.monotonic(), patience

    def _wait_ready(self) -> None:
        """Everything answers: the system is up."""
        silent = [name for name in self._system.config.devices if not self._answers(name)]
        late = time.monotonic() - self._begun > self._patience
        if silent:
            if late:
                self._on_job(f"{', '.join(silent)} did not answer within {self._patience:g} s")
            return
        if self._system.config.conductor.enabled and not self._system.conductor_ready():
            if late:
                self._system.stop_conductor()
                self._on_conductor(f"the conductor did not see all devices within {self._patience:g} s")
            return
        if self._system.config.web.enabled and not self._system.web_ready():
            if late:
                self._system.stop_web()
                self._on_web(f"the page did not open within {self._patience:g} s")
            return
        self._now_up()

    def _now_up(self) -> None:
        assert self._job is not None  # its devices answer
        self._job.look()
        self._job.note_segments()
        if self._fresh:
            self._write_parameters()
        self._fresh = False
        if url := self._system.web_url:
            self._note(f"the page is at {url}")
        self._note(f"up: all devices answer after {time.monotonic() - self._begun:.1f} s", phase=Phase.UP)

    def _answers(self, name: str) -> bool:
        return answers_ping(self._system.tango_host, name)

    def _write_parameters(self) -> None:
        config = self._system.config
        acq, proc = (json.dumps(part) if part else "" for part in (config.acq_params, config.proc_params))
        if refusal := write_parameters(self._system.tango_host, config.control.device, acq, proc):
            self._events(f"{config.control.device} refuses the parameters of the configuration: {refusal}")

    def _listen_to_the_past(self) -> None:
        """What the launcher of a dead job says comes up to two seconds later."""
        for job, deadline in list(self._past):
            if job.child.popen.poll() is None and time.monotonic() < deadline:
                continue
            self._past.remove((job, deadline))
            job.child.kill()
            for cause in job.causes():
                self._note(cause)

    def _end(self, failure: str) -> None:
        """End everything, a run with its data complete; bounded."""
        was_up = self._state.phase is Phase.UP
        told_by = f" ({self._told_by})" if self._told_by else ""
        self._note(failure or f"stopping{told_by}", phase=Phase.STOPPING)
        self._wake()
        if was_up and (told := self._stop_run()):
            self._note(told)
        names = ", ".join(running.name for running in self._running())
        self._system.stop_conductor()
        if self._job is not None:
            self._job.note_segments()
        self._system.stop_job()
        if self._job is not None:
            self._job.bury()
            at_once([self._unexport], ANSWER_TIMEOUT)
        for job, _ in self._past:
            job.child.kill()
        self._system.stop()
        self._events(f"ended: {names}" if names else "ended: nothing was running")
        phase, event = (Phase.FAILED, failure) if failure else (Phase.STOPPED, self._events.last)
        self._save(replace(self._state, phase=phase, event=" ".join(event.split()), processes=[]))

    def _wake(self) -> None:
        """What is frozen could neither end its run nor hear that it is to end."""
        living = {running.name: process for running in self._running() if (process := running.process()) is not None}
        if frozen := {name: process for name, process in living.items() if is_frozen(process)}:
            wake(list(frozen.values()))
            names = ", ".join(f"{name} (process {process.pid})" for name, process in frozen.items())
            self._note(f"{names} was stopped by SIGSTOP, and goes on to end")

    def _unexport(self) -> None:
        unexport(self._system.tango_host, self._servers)

    def _stop_run(self) -> str:
        if not database_answers(self._system.tango_host, ANSWER_TIMEOUT):
            return "the run could not be stopped, as the Tango database does not answer: it ends with the job"
        return stop_run(self._system.tango_host, self._system.control, self._servers, RUN_TIMEOUT)

    def _note(self, what: str, **changes: object) -> None:
        """An event, and the state that goes with it."""
        self._events(what)
        self._save(replace(self._state, event=self._events.last, **changes))  # type: ignore[arg-type]
        self._write()

    def _write(self) -> None:
        self._save(replace(self._state, processes=self._running()))

    def _save(self, state: SystemState) -> None:
        self._state = state
        try:
            write_state(state)
        except OSError as error:
            self._events(f"the state file could not be written: {error}")

    def _running(self) -> list[Running]:
        """Processes of the system that live, with the names that people know them by."""
        found = {child.popen.pid: name for name, child in self._system.children.items() if not child.ended}
        if self._job is not None:  # where one instance does everything, the job is its process
            found |= {rank.pid: name for name, rank in self._job.ranks.items()}
        running = []
        for pid, name in found.items():
            with suppress(psutil.NoSuchProcess):
                running.append(Running.of("launcher" if name == "job" else name, pid))
        return running
