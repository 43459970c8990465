"""P2: a detector's stream into HDF5 files, its compressed chunks as they are, against the same messages into one file.

The detector is `lima2 simulate dectris` in a process of its own, with images of different content that were compressed
before. All sides pull the same messages from it, one side after the other, on the same cores; the clock runs from the
first message of a series to its last, and for files until they are closed.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import h5py
import zmq

from lima2_tango.cameras.dectris import PLUGIN, _legacy, _stream2
from lima2_tango.cameras.dectris._messages import Image, SeriesEnd, SeriesStart
from lima2_tango.cameras.dectris._params import DectrisParams
from lima2_tango.core.errors import DataLossError
from lima2_tango.core.frame import Block
from lima2_tango.core.pool import Pool
from lima2_tango.core.series import Series
from lima2_tango.core.storage import SavingParams
from lima2_tango.core.units import bytes_text
from lima2_tango.saving.layout import data_path
from lima2_tango.saving.writer import opener
from lima2_tango.simulators.dectris.frames import Powder, Ring, gaps
from lima2_tango.simulators.dectris.models import Model, find_model
from lima2_tango.transport.topology import RoundRobin

from . import libertem
from .rig import folder_in_memory
from .row import Row, Tell
from .simulated import DISTINCT, END, LEGACY, MODERN, Detector, Load
from .storage import METADATA

TO_BARE, TO_LIBERTEM = 0.7, 0.8
"""Goals: our rate divided by the reference's."""
PER_FILE = 100
"""Images in a file."""
BUDGET = 1 << 30
"""Of the receiver's memory [byte]; what is saved as it came needs none of it."""


@dataclass(frozen=True, slots=True)
class Took:
    """What one side needed for a series."""

    seconds: float
    lost: int = 0


Side = Callable[[Path], Took]
"""Has one series exposed, and receives it; takes an empty folder in memory."""


def measure(short: bool, tell: Tell) -> list[Row]:
    """P2: 120 images of 16 million pixels and 1200 of one (40 and 400 in short form), three times (once)."""
    runs, part = (1, 3) if short else (3, 1)
    rows: list[Row] = []
    for name, count in (("eiger2-16m", 120), ("eiger2-1m", 1200)):
        rows += measure_model(find_model(name), count // part, runs, tell)
    return rows


def measure_model(model: Model, count: int, runs: int, tell: Tell) -> list[Row]:
    """Both streams of one detector, and what receiving alone takes."""
    with tempfile.TemporaryDirectory(prefix="lima2_bench_") as name:
        folder = Path(name)
        with Detector(model, folder / "detector.log") as detector:
            rows = [_saved(detector, Load(model, count, form), runs, tell) for form in (MODERN, LEGACY)]
            return [*rows, *_received(detector, Load(model, count, LEGACY), runs, tell, folder)]


def _saved(detector: Detector, load: Load, runs: int, tell: Tell) -> Row:
    """Files of ours against a bare loop."""
    ring = ring_of(load)
    sides: dict[str, Side] = {
        "bare": lambda folder: write_bare(detector, folder, load),
        "ours": lambda folder: Took(save(detector, folder, load), verify(folder, load, ring)),
    }
    took = _interleaved(detector, load, sides, runs, tell, 2 * ring.nbytes // DISTINCT * load.count)
    return _row(load, f"{load.name}, to HDF5; reference: recv and os.write", TO_BARE, took["ours"], took["bare"], ring)


def ring_of(load: Load) -> Ring:
    """What the detector sends, made once more."""
    return Ring(Powder(), load.recipe, DISTINCT, gaps(load.model, load.recipe.shape))


def _received(detector: Detector, load: Load, runs: int, tell: Tell, folder: Path) -> list[Row]:
    """Receiving without files against libertem-dectris, which takes the legacy stream; nothing where there is none."""
    tell("an environment for libertem-dectris")
    python = libertem.install(folder)
    if python is None:
        tell("libertem-dectris cannot be installed here: no such row")
        return []
    sides: dict[str, Side] = {"ours": lambda _: receive(detector, load)}
    took = _interleaved(detector, load, sides, runs, tell, 0)
    tell(f"{load.name}, {load.count} images, libertem-dectris, {runs} runs")
    detector.set_up(load)
    theirs = [
        Took(seconds, load.count - count)
        for count, seconds in libertem.receive(detector, load, python, runs + 1, folder / "libertem.socket")
    ]
    what = f"{load.name}, received alone; reference: libertem-dectris"
    return [_row(load, what, TO_LIBERTEM, took["ours"], theirs, None)]


def _interleaved(
    detector: Detector, load: Load, sides: dict[str, Side], runs: int, tell: Tell, room: int
) -> dict[str, list[Took]]:
    """Each side in turn, `runs` times and once before, which is not measured."""
    detector.set_up(load)
    took: dict[str, list[Took]] = {name: [] for name in sides}
    for run in range(runs + 1):
        for name, side in sides.items():
            tell(f"{load.name}, {load.count} images, {name}, run {run} of {runs}")
            with folder_in_memory(room) as folder:
                took[name].append(side(folder))
    return took


@contextmanager
def pulled(detector: Detector, load: Load) -> Generator[zmq.Socket[bytes]]:
    """A socket that pulls, and a series whose start has come to it."""
    with zmq.Context() as context, ThreadPoolExecutor(1, "lima2-bench") as pool:
        pull = context.socket(zmq.PULL)
        pull.rcvtimeo = int(END * 1000)
        pull.connect(detector.streams[load.form])
        exposed = pool.submit(detector.expose)
        try:
            pull.poll(int(END * 1000))
            yield pull
            exposed.result(END)
        finally:
            context.destroy(linger=0)


def messages(pull: "zmq.Socket[bytes]", load: Load) -> Iterator[list[Any]]:
    """All messages of a series, as parts that are not copied; the last is its end."""
    for _ in range(load.count + 2):
        yield pull.recv_multipart(copy=False)


def write_bare(detector: Detector, folder: Path, load: Load) -> Took:
    """The reference: what comes goes into one file."""
    with pulled(detector, load) as pull:
        begin = time.perf_counter()
        file = os.open(folder / "messages", os.O_CREAT | os.O_WRONLY)
        for parts in messages(pull, load):
            for part in parts:
                left = part.buffer
                while len(left):
                    left = left[os.write(file, left) :]
        os.close(file)
        return Took(time.perf_counter() - begin)


def decoded(parts: Sequence[Any], load: Load) -> SeriesStart | Image | SeriesEnd:
    if load.form == LEGACY:
        return _legacy.decode([part.buffer for part in parts])
    return _stream2.decode(parts[0].buffer)


def receive(detector: Detector, load: Load) -> Took:
    """Our decoder alone."""
    numbers: list[int] = []
    with pulled(detector, load) as pull:
        begin = time.perf_counter()
        for parts in messages(pull, load):
            message = decoded(parts, load)
            if isinstance(message, Image):
                numbers.append(message.number)
        took = time.perf_counter() - begin
    return Took(took, load.count - len(set(numbers)) + (numbers != sorted(numbers)))


def save(detector: Detector, folder: Path, load: Load) -> float:
    """Both halves of the camera, which saves the chunks as they came; returns seconds from start to closed files."""
    control, receiver, pool = PLUGIN.control(), PLUGIN.receiver(), Pool(BUDGET)
    with closing(control), closing(receiver):
        control.locate(detector.address)
        receiver.locate(detector.address)
        params = _params(detector, folder, load)
        control.prepare(params)
        receiver.prepare(params, 0, 1, pool)
        receiver.open_files(opener(0, METADATA, load.count))
        begin = time.perf_counter()
        series = Series(params.acq, RoundRobin(1), 0)
        series.tag = control.tag
        control.start(series.grant)
        for item in receiver.blocks(series):
            if isinstance(item, Block):
                item.lease.release()
        return time.perf_counter() - begin


def _params(detector: Detector, folder: Path, load: Load) -> DectrisParams:
    """Frames as fast as the detector makes them with 16 bits."""
    acq = {"nb_frames": load.count, "expo_time": ceil(load.model.full.period * 1e6), "latency_time": 0}
    stream = "legacy" if load.form == LEGACY else "stream2"
    port = int(detector.streams[load.form].rpartition(":")[2])
    saving = {"enabled": True, "base_path": str(folder), "nb_frames_per_file": PER_FILE}
    det = {"stream": stream, "stream_port": port, "overload": "abort"}
    return DectrisParams.parse(json.dumps({"acq": acq, "det": det, "saving": saving}))


def verify(folder: Path, load: Load, ring: Ring) -> int:
    """Images missing; raises DataLossError where a chunk in the files is not the one that was sent."""
    path, number = data_path(SavingParams()), 0
    for file_path in sorted(folder.glob("*.h5")):
        with h5py.File(file_path) as file:
            images = file[path].id
            for row in range(images.shape[0]):
                _, chunk = images.read_direct_chunk((row, 0, 0))
                if chunk != ring.chunks[number % len(ring)][0].data:
                    raise DataLossError(f"{file_path}, row {row}: this is not image {number}", frame_idx=number)
                number += 1
    return load.count - number


def _row(load: Load, what: str, goal: float, ours: Sequence[Took], theirs: Sequence[Took], ring: Ring | None) -> Row:
    """Medians; the first of each side is not measured."""
    own, other = ([each.seconds for each in side[1:]] for side in (ours, theirs))
    rate, reference = (load.count / statistics.median(seconds) for seconds in (own, other))
    ratios = ", ".join(f"{them / us:.2f}" for us, them in zip(own, other, strict=True))
    size = f"of {bytes_text(ring.nbytes / len(ring))} compressed" if ring else "not saved"
    detail = f"{load.count} images {size}, {DISTINCT} different ones; ratios of the runs: {ratios}"
    lost = sum(abs(each.lost) for each in [*ours, *theirs])
    return Row("P2", what, rate, reference, "images/s", rate / reference, goal, lost, len(own), detail)
