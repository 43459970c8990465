"""What cannot work is refused before anything is started, each with its remedy."""

import socket
from importlib.util import find_spec
from pathlib import Path

import psutil

from lima2_tango.client.supervision import database_answers, running_instances, served_elsewhere

from .config import SERVER, DatabaseKind, SystemConfig, WebConfig
from .disk import LEAST_FREE, shortage
from .process import LaunchError, free_port, program

CONNECT_TIMEOUT = 2.0
"""A computer that does not take a connection within this is not there [s]."""
DATABASE_TIMEOUT = 2.0
"""A database that runs answers within [s]."""
DEVICES_TIMEOUT = 2.0
"""Servers and devices of another system answer within [s]."""


def check(config: SystemConfig, folder: Path) -> None:
    """Raise LaunchError for the first reason why the system cannot start on this computer, in this run directory."""
    if short := shortage(folder, LEAST_FREE):
        raise LaunchError(f"{short}, too little for database and logs: free some, or choose another folder with --dir")
    _check_mpi(config)
    free_port(config.listen)
    if config.conductor.enabled:
        _check_port(config.listen, config.conductor.port, "$.conductor.port")
    if config.web.enabled:
        _check_web(config.web)
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


def _check_web(web: WebConfig) -> None:
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        raise LaunchError("the page needs starlette and uvicorn: pip install 'lima2_tango[web]', or disable $.web")
    _check_port(web.listen, web.port, "$.web.port")


def _check_port(address: str, port: int, path: str) -> None:
    """The port is free; 0 always is."""
    try:
        with socket.socket() as probe:
            # A port that was in use a minute ago is free; one that somebody listens on is not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except (OSError, ValueError, TypeError) as error:  # a name with a NUL, or with too long a part
        why = getattr(error, "strerror", None) or error
        raise LaunchError(
            f"{path} = {port}: it cannot be listened on at {address} ({why}{_owner(port)}); "
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
    """The database answers, and nobody else runs our instances or serves our devices."""
    tango_host = f"{config.database.host}:{config.database.port}"
    try:
        socket.create_connection((config.database.host, config.database.port), CONNECT_TIMEOUT).close()
        fault = (
            "" if database_answers(tango_host, DATABASE_TIMEOUT) else "something else listens there, or it is frozen"
        )
    except (OSError, ValueError, TypeError) as error:  # a name with a NUL, or with too long a part
        fault = str(error)
    if fault:
        raise LaunchError(
            f"the Tango database at {tango_host} does not answer ({fault}): start it, correct $.database, "
            "or let lima2 bring one along (kind: builtin)"
        )
    _check_nobody_else(config, tango_host)


def _check_nobody_else(config: SystemConfig, tango_host: str) -> None:
    servers = [f"{SERVER}/{instance}" for instance in config.instances]
    if running := running_instances(tango_host, servers, DEVICES_TIMEOUT):
        names = ", ".join(f"{name} ({where})" for name, where in running.items())
        raise LaunchError(
            f"{names} runs already, as the database at {tango_host} says: end it first, or use other instances"
        )
    if taken := served_elsewhere(tango_host, config.devices, servers, DEVICES_TIMEOUT):
        names = ", ".join(f"{device} is served by {who}" for device, who in taken.items())
        raise LaunchError(
            f"{names}, as the database at {tango_host} says: end that system first, or give these devices other names"
        )
