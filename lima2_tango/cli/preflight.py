"""What cannot work is refused before anything is started, each with its remedy."""

import socket
from importlib.util import find_spec

import psutil

from lima2_tango.client.supervision import database_answers, running_instances

from .config import SERVER, DatabaseKind, SystemConfig
from .process import LaunchError, free_port, program

CONNECT_TIMEOUT = 2.0
"""A computer that does not take a connection within this is not there [s]."""
DATABASE_TIMEOUT = 2.0
"""A database that runs answers within [s]."""


def check(config: SystemConfig) -> None:
    """Raise LaunchError for the first reason why the system cannot start on this computer."""
    _check_mpi(config)
    free_port(config.listen)
    if config.conductor.enabled:
        _check_port(config.listen, config.conductor.port, "$.conductor.port")
    if config.database.kind is DatabaseKind.EXTERNAL:
        _check_external(config)
    else:
        _check_port(config.database.address, config.database.port, "$.database.port")


def _check_mpi(config: SystemConfig) -> None:
    if len(config.instances) == 1:
        return
    remedy = "pip install 'lima2_tango[mpich]', or give all devices one instance, which needs no MPI"
    if find_spec("mpi4py") is None:
        raise LaunchError(
            f"{len(config.instances)} instances are ranks of one MPI job, and there is no mpi4py: {remedy}"
        )
    try:
        program(config.launcher or "mpiexec")
    except LaunchError as error:
        raise LaunchError(f"{error}; {remedy}") from error


def _check_port(address: str, port: int, path: str) -> None:
    """The port is free; 0 always is."""
    try:
        with socket.socket() as probe:
            # A port that was in use a minute ago is free; one that somebody listens on is not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise LaunchError(
            f"{path} = {port}: it cannot be listened on at {address} ({error.strerror}{_owner(port)}); "
            "end who has it, or choose another port (0 takes a free one)"
        ) from error


def _owner(port: int) -> str:
    """Who listens on a port, as far as the kernel tells us."""
    try:
        listening = [it for it in psutil.net_connections("tcp") if it.laddr and it.laddr.port == port and it.pid]
        return f" by process {listening[0].pid}, {psutil.Process(listening[0].pid).name()}" if listening else ""
    except (psutil.Error, OSError):
        return ""


def _check_external(config: SystemConfig) -> None:
    """The database answers, and nobody else runs our instances."""
    tango_host = f"{config.database.host}:{config.database.port}"
    try:
        socket.create_connection((config.database.host, config.database.port), CONNECT_TIMEOUT).close()
        fault = "" if database_answers(tango_host, DATABASE_TIMEOUT) else "something else listens there"
    except OSError as error:
        fault = str(error)
    if fault:
        raise LaunchError(
            f"the Tango database at {tango_host} does not answer ({fault}): start it, correct $.database, "
            "or let lima2 bring one along (kind: builtin)"
        )
    if running := running_instances(tango_host, [f"{SERVER}/{instance}" for instance in config.instances]):
        names = ", ".join(f"{name} ({where})" for name, where in running.items())
        raise LaunchError(
            f"{names} runs already, as the database at {tango_host} says: end it first, or use other instances"
        )
