"""The device server `lima2_tango`: one process, one rank of the MPI job."""

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import TextIO

import tango
import tango.server

from lima2_tango import __version__
from lima2_tango.cameras.base import Plugin
from lima2_tango.core.heap import keep_memory
from lima2_tango.core.priority import lower_session
from lima2_tango.processing.executor import NICENESS
from lima2_tango.transport.channel import CHANNEL_THREAD, Channel, World, WorldOfOne
from lima2_tango.transport.mpi import MpiWorld, launched_by_mpi, launched_rank
from lima2_tango.transport.segments import remove_dead_segments

from . import database as registry
from .base import LOG_LEVELS, AcquisitionDevice
from .control import ControlDevice
from .factory import PROCESSING_VERSION, ROLES, camera_classes, class_of, processing_classes
from .process import Process
from .processing import ProcessingDevice
from .receiver import ReceiverDevice
from .warm import warm_up

log = logging.getLogger("lima2_tango")

EXIT_WATCHDOG = 0.8
"""A process that has not ended by itself this long after its last device is ended hard [s]."""


def main() -> None:
    """Entry point of the console script."""
    options, tango_options = _parse(sys.argv[1:])
    _log_to(options.log_level, options.log_file_path, options.log_file_filename.replace("%I", options.instance))
    code = 1
    try:
        code = _serve(options.instance, tango_options, options.instances)
    except tango.DevFailed as error:
        host = os.environ.get("TANGO_HOST", "not set")
        why = error.args[0].desc.strip()
        log.critical("Tango cannot serve %s: %s. TANGO_HOST is %s: does its database run?", options.instance, why, host)
    except Exception as error:
        log.exception("the server of %s cannot run", options.instance)
        raise SystemExit(1) from error
    finally:
        logging.shutdown()
        sys.stdout.flush()
        # MPI is finalized and files are closed: the interpreter's own clean-up would only cost time.
        os._exit(code)


def _serve(instance: str, tango_options: list[str], instances: list[str]) -> int:
    keep_memory()  # PyTango copies a frame that somebody gets under Python's lock, and nobody is answered meanwhile
    # MPI comes last: a rank that waits for the others in there takes a core from them.
    registered = "-nodb" not in tango_options and not instance.startswith("-")
    database = tango.Database() if registered else None
    listed = {} if database is None else registry.listed(database, instance)
    cameras = camera_classes(set(listed.values()) if registered else _classes_on_command_line(tango_options))
    received = [made.plugin for made in cameras.values() if issubclass(made, ReceiverDevice)]
    processing = processing_classes() if registered else {}
    if database is not None:
        _clear(database, listed, processing)
        for made in cameras.values():
            if issubclass(made, ControlDevice):
                _publish(database, made.plugin, processing)
    world, alone = _join_job()
    _check_roles(world, instances)
    process = Process(Channel(world), alone=alone, registered=registered)
    AcquisitionDevice.process = ProcessingDevice.process = process
    argv = [registry.SERVER, instance, *tango_options]
    util = tango.Util(argv)
    util.set_serial_model(tango.SerialModel.BY_DEVICE)  # and commands leave that lock to readers: see commands.py
    process.channel.open()
    threading.excepthook = _end_process_whose_channel_died
    tango.server.run(
        (*cameras.values(), *processing.values()),
        args=argv,
        util=util,
        post_init_callback=lambda: _answering(process, received),
        raises=True,
    )
    # Not a Python thread: MPI's Finalize waits for the other ranks and keeps the interpreter while it does.
    faulthandler.dump_traceback_later(EXIT_WATCHDOG, exit=True, file=_nowhere())
    # A launcher that sees another rank end may send more signals: they must not break the closing of files.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    process.close()
    return 0


def _classes_on_command_line(tango_options: list[str]) -> set[str] | None:
    """Those that -dlist names (CLASS::DEVICE,...); None without it: all."""
    if "-dlist" not in tango_options[:-1]:
        return None
    entries = tango_options[tango_options.index("-dlist") + 1].split(",")
    return {entry.split("::")[0] for entry in entries if "::" in entry} or None


def _answering(process: Process, received: list[Plugin]) -> None:
    """Tango answers from now on: meet the other ranks, and get ready what the first Prepare would wait for."""
    process.announce()
    if received:
        lower_session(NICENESS)  # else clients and conductor wait: under load for seconds, as seen on Linux 6.18
        threading.Thread(target=warm_up, args=[process.roster, received], name="lima2-warm-up", daemon=True).start()


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w")


def _end_process_whose_channel_died(failed: threading.ExceptHookArgs) -> None:
    """A rank that no longer hears the others must not keep them waiting: end it, so that the job ends."""
    name = failed.thread.name if failed.thread else "a thread"
    log.critical("%s died: %s", name, failed.exc_value, exc_info=failed.exc_value)
    if name == CHANNEL_THREAD:
        os.kill(os.getpid(), signal.SIGTERM)


def _join_job() -> tuple[World, bool]:
    """The MPI job this process belongs to, or a world of one."""
    if not launched_by_mpi():
        return WorldOfOne(), True
    try:
        world = MpiWorld()
    except (ImportError, RuntimeError) as error:
        log.critical("started by mpiexec, but MPI cannot be used (%s): pip install 'lima2_tango[mpich]'", error)
        raise SystemExit(1) from error
    log.info("MPI rank %d of %d, %s", world.rank, world.size, world.library)
    if world.rank == 0:
        for name in remove_dead_segments():
            log.warning("removed the shared memory %s, which a killed job had left", name)
    return world, False


def _check_roles(world: World, instances: list[str]) -> None:
    """Of several instances that all ranks are told, each has a rank."""
    if len(instances) > 1 and world.size != len(instances):
        told = f"{len(instances)} instances are named ({', '.join(instances)})"
        log.critical("%s, but the job has %d ranks: mpiexec -n %d", told, world.size, len(instances))
        raise SystemExit(1)


def _clear(database: tango.Database, listed: dict[str, str], processing: Collection[str]) -> None:
    """Tango must not make the devices again that a killed predecessor left in the database (contract R8)."""
    for name, class_name in listed.items():
        if class_name in processing:
            database.delete_device(name)
            log.warning("deleted %s, which a killed server had left in the database", name)


def _publish(database: tango.Database, camera: Plugin, processing: dict[str, type[ProcessingDevice]]) -> None:
    """The control's process writes schemas and versions for all: none answers before every rank has joined the job."""
    acquisition = ("acq_params", camera.params.schema_text())
    schemas = {class_of(camera, role): acquisition for role in ROLES}
    schemas |= {name: ("proc_params", made.plugin.params.schema_text()) for name, made in processing.items()}
    registry.publish(database, schemas, dict.fromkeys(processing, PROCESSING_VERSION))


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="lima2_tango",
        description="Lima2 device server: the control and receiver devices that the Tango database lists for INSTANCE. "
        "Alone it is a single-computer system; as ranks of one mpiexec job it is a distributed one.",
        epilog="Tango's own options (-v4, -nodb, -dlist, -file, -ORBendPoint, -?) are passed on. "
        "Example: mpiexec -n 1 lima2_tango simulator_ctl : -n 1 lima2_tango simulator_rcv1, "
        "or with the same words for each rank: mpiexec -n 2 lima2_tango simulator_ctl simulator_rcv1",
        allow_abbrev=False,
    )
    parser.add_argument(
        "instances",
        metavar="INSTANCE",
        nargs="+",
        help="server instance in the Tango database; of several, MPI rank 0 runs the first, rank 1 the second, ...",
    )
    parser.add_argument(
        "--log-level", choices=list(LOG_LEVELS), default="info", help="least severe message (default: info)"
    )
    parser.add_argument("--log-file-path", metavar="DIR", help="also log to a file in this folder")
    parser.add_argument(
        "--log-file-filename",
        metavar="PATTERN",
        default="lima2_tango.%N.log",
        help="its name; %%N counts the files, %%I is the instance",
    )
    parser.add_argument("--version", action="version", version=f"lima2_tango {__version__}")
    if "-?" in arguments:
        alone = {"instance": "-?", "instances": ["-?"]}
        return argparse.Namespace(**alone, log_level="info", log_file_path=None, log_file_filename=""), []
    options, tango_options = parser.parse_known_args(arguments)
    options.instance = _own(options.instances, parser)
    return options, tango_options


def _own(instances: list[str], parser: argparse.ArgumentParser) -> str:
    """The instance of this process: the database says which devices, and so which role, it has."""
    if len(instances) == 1:
        return instances[0]
    rank = launched_rank()
    if rank is None:
        parser.error(f"{len(instances)} instances are as many MPI ranks: start them with mpiexec -n {len(instances)}")
    if rank >= len(instances):
        parser.error(f"MPI rank {rank} has no instance, {len(instances)} are named: mpiexec -n {len(instances)}")
    return instances[rank]


def _log_to(level: str, folder: str | None, pattern: str) -> None:
    logging.addLevelName(LOG_LEVELS["trace"], "TRACE")
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(_next_file(Path(folder), pattern)))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        log.addHandler(handler)
    log.setLevel(LOG_LEVELS[level])


def _next_file(folder: Path, pattern: str) -> Path:
    """The first file of the pattern that does not exist yet; %N counts from 0."""
    number = 0
    while "%N" in pattern and (folder / pattern.replace("%N", str(number))).exists():
        number += 1
    return folder / pattern.replace("%N", str(number))
