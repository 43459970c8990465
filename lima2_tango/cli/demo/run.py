"""`lima2 demo`: a whole acquisition, from a detector's frames to files proven complete, in less than a minute."""

import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lima2_tango.cli.config import ConductorConfig, Member, SystemConfig, Topology
from lima2_tango.cli.system import System
from lima2_tango.core.errors import SavingError
from lima2_tango.core.units import bytes_text

from .acquire import PREFIX, Acquisition, Taken
from .frames import DemoFrames
from .inputs import InputFiles, real_frame, workers
from .picture import draw
from .rois import regions
from .verify import Verifier, folder_bytes, saved_frame

Counters = tuple[Callable[[], None], Callable[[int], None]]
"""Of a progress bar: counts one more, sets the count."""
WORST_RATIO = 3
"""Frames compress at least this well: what the check of the disk counts on."""

SYSTEM = SystemConfig(
    name="reader",
    camera="Reader",
    control=Member(device="id00/limacontrol/reader", instance="reader_ctl"),
    receivers=(
        Member(device="id00/limareceiver/reader1", instance="reader_rcv1"),
        Member(device="id00/limareceiver/reader2", instance="reader_rcv2"),
    ),
    conductor=ConductorConfig(topology=Topology.ROUND_ROBIN),
)
"""The same as `config/reader.yaml`."""


@dataclass(slots=True)
class Report:
    """What the demo did."""

    nb_frames: int
    raw_bytes: int
    """Of all frames, not compressed."""
    saved_bytes: int
    nb_files: int
    acquisition_s: float
    master: Path
    picture: Path
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of each phase, in order."""

    def tell(self, console: Console) -> None:
        """A table and, below it, what one copies: a path that is folded, or cut, is none."""
        console.print(self.table())
        for name, path in (("master file", self.master), ("picture", self.picture)):
            console.print(f"{name:<13}{path}", soft_wrap=True, markup=False, highlight=False)

    def table(self) -> Table:
        table = Table(title="lima2 demo: every frame and every statistic verified", show_header=False)
        rate = self.nb_frames / self.acquisition_s
        speed = bytes_text(self.raw_bytes / self.acquisition_s)
        table.add_row("frames", f"{self.nb_frames} of {bytes_text(self.raw_bytes / self.nb_frames)}")
        table.add_row("rate, start to last frame", f"{rate:.1f} frames/s, {speed}/s")
        table.add_row("data", f"{bytes_text(self.raw_bytes)}, saved as {bytes_text(self.saved_bytes)}")
        table.add_row("compression ratio", f"{self.raw_bytes / self.saved_bytes:.2f}")
        table.add_row("files", f"{self.nb_files}, and the master file")
        for phase, seconds in self.phases.items():
            table.add_row(phase, f"{seconds:.1f} s")
        table.add_row("total", f"{sum(self.phases.values()):.1f} s")
        return table


class Demo:
    """One run of the demo in `folder`; the files that the Reader replays go when it is done, unless `keep`."""

    def __init__(self, nb_frames: int, folder: Path, keep: bool, progress: Progress, check: Callable[[], None]) -> None:
        """`check` is called for each frame, and may end it all by what it raises."""
        self._nb_frames = nb_frames
        self._folder = folder.absolute()
        self._keep = keep
        self._progress, self._check = progress, check
        self._phases: dict[str, float] = {}

    def run(self) -> Report:
        """Everything, in order; raises a Lima2Error at the first thing that is not as it must be."""
        for name in ("input", "system"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._phase("read the real frame", 1):
            frames = DemoFrames(real_frame())
        raw_bytes = 2 * frames.shape[0] * frames.shape[1] * self._nb_frames
        self._check_disk(raw_bytes)
        try:
            taken = self._acquire(frames)
            return self._examine(frames, taken, raw_bytes)
        finally:
            if not self._keep:
                shutil.rmtree(self._folder / "input", ignore_errors=True)

    def _acquire(self, frames: DemoFrames) -> Taken:
        inputs = InputFiles(frames, self._nb_frames, self._folder / "input")
        with System(SYSTEM, self._folder / "system") as system:
            with self._phase("make frames", self._nb_frames) as (done, _):
                inputs.write(done, workers())
            with self._phase("wait for the system", 1):
                system.wait_ready()
            host, port = system.config.listen, system.conductor_port
            data = self._folder / "data"
            acquisition = Acquisition(host, port, self._nb_frames, inputs.reader_params(), data)
            with self._phase("acquire", self._nb_frames) as (_, progress):
                taken = acquisition.run(progress)
            with self._phase("stop the system", 1):
                system.stop()
        return taken

    def _examine(self, frames: DemoFrames, taken: Taken, raw_bytes: int) -> Report:
        with self._phase("verify", self._nb_frames) as (done, _):
            Verifier(frames, self._nb_frames, taken, regions()).run(done, workers())
        index = self._nb_frames // 2
        picture = self._folder / f"frame_{index:05d}.png"
        with self._phase("draw", 1):
            draw(saved_frame(taken, index), index, picture)
        nb_files, saved_bytes = folder_bytes(taken.master.parent, f"{PREFIX}_[0-9]*_*.h5")
        return Report(
            self._nb_frames, raw_bytes, saved_bytes, nb_files, taken.seconds, taken.master, picture, self._phases
        )

    def _check_disk(self, raw_bytes: int) -> None:
        needed, free = 2 * raw_bytes // WORST_RATIO, shutil.disk_usage(self._folder).free
        if free < needed:
            raise SavingError(
                f"the demo needs {bytes_text(needed)} in {self._folder}, where {bytes_text(free)} are free: "
                "take fewer frames (--frames) or another folder (--folder)"
            )

    @contextmanager
    def _phase(self, name: str, total: int) -> Generator[Counters, None, None]:
        """A progress bar and a stopwatch."""
        task = self._progress.add_task(name, total=total)
        begin = time.monotonic()

        def done() -> None:
            self._check()
            self._progress.advance(task)

        def reached(count: int) -> None:
            self._check()
            self._progress.update(task, completed=count)

        yield done, reached
        self._phases[name] = time.monotonic() - begin
        self._progress.update(task, completed=total)


def progress_bars() -> Progress:
    """A line per phase."""
    return Progress(TextColumn("{task.description:<20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
