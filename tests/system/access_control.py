"""Debian's TangoAccessControl, whose rules are in a MariaDB, beside a Tango database of any kind."""

import os
import shutil
import socket
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import tango
from watching import wait_for

from lima2_tango.client.database import DeviceEntry, register

SERVER = Path("/usr/lib/tango/TangoAccessControl")
TABLES = Path("/usr/share/dbconfig-common/data/tango-db/install/mysql")
DEVICE = "sys/access_control/1"
READY_S = 30.0
READABLE = ("State", "Status", "Run", "getFrame", "getInputFrame", "ListCameras", "ListPipelines")
"""Commands that a reader of the control may use."""


def missing() -> list[str]:
    """What is not installed of it."""
    programs = {"mariadb-server": shutil.which("mariadbd"), "mariadb-client": shutil.which("mariadb")}
    files = {"tango-accesscontrol": SERVER.exists(), "tango-db": TABLES.exists()}
    return [package for package, found in (programs | files).items() if not found]


class Rules:
    """The rules, which are asked for by every client that connects."""

    def __init__(self, socket_file: Path) -> None:
        self._client = ["mariadb", "--no-defaults", "-uroot", "-S", str(socket_file)]

    def say(self, statement: str, database: str = "tango") -> None:
        subprocess.run([*self._client, database], input=statement, text=True, check=True, timeout=READY_S)

    def prepare(self) -> None:
        """Everybody may write, as after the installation; readers have some commands of the Simulator's control."""
        self.say("create database tango", "mysql")
        self.say(TABLES.read_text())
        for number, name in enumerate(READABLE, 1):
            self.say(
                "insert into property_class (class, name, count, value, updated, accessed) "
                f"values ('LimaSimulatorControl', 'AllowedAccessCmd', {number}, '{name}', now(), now())"
            )

    def let(self, devices: str, rights: str) -> None:
        """`rights`, read or write, on devices that match; the narrowest pattern counts."""
        self.say(f"delete from access_device where device = '{devices}'")
        self.say(
            "insert into access_device (user, device, rights, updated, accessed) "
            f"values ('*', '{devices}', '{rights}', now(), now())"
        )


@contextmanager
def rules_in(folder: Path) -> Generator[tuple[Rules, Path]]:
    """A MariaDB in this folder, without a network, and the file of its socket."""
    data, socket_file = folder / "maria", folder / "maria.sock"
    options = ["--no-defaults", f"--datadir={data}"]
    install = ["mariadb-install-db", *options, "--auth-root-authentication-method=normal", *as_root()]
    subprocess.run(install, check=True, capture_output=True, timeout=60)
    command = ["mariadbd", *options, f"--socket={socket_file}", "--skip-networking", *as_root()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(partial(listens, socket_file), READY_S, "MariaDB")
        rules = Rules(socket_file)
        rules.prepare()
        yield rules, socket_file
    finally:
        process.terminate()
        process.wait(READY_S)


def as_root() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []


def listens(socket_file: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as found:
        return found.connect_ex(str(socket_file)) == 0


@contextmanager
def access_control(tango_host: str, folder: Path) -> Generator[Rules]:
    """The access control of a Tango database, which its clients ask from now on."""
    with rules_in(folder) as (rules, socket_file):
        register(tango_host, [DeviceEntry(DEVICE, "TangoAccessControl", "TangoAccessControl/1")])
        (folder / ".my.cnf").write_text(f"[client]\nsocket={socket_file}\n")
        settings = {"TANGO_HOST": tango_host, "HOME": str(folder), "MYSQL_HOST": "localhost"}
        settings |= {"MYSQL_USER": "root", "MYSQL_PASSWORD": "", "MYSQL_DATABASE": "tango"}
        process = subprocess.Popen([str(SERVER), "1"], env=dict(os.environ, **settings))
        try:
            wait_for(partial(answers, tango_host), READY_S, "the access control")
            host, port = tango_host.split(":")
            tango.Database(host, int(port)).register_service("AccessControl", "tango", DEVICE)
            yield rules
        finally:
            process.terminate()
            process.wait(READY_S)


def answers(tango_host: str) -> bool:
    try:
        return tango.DeviceProxy(f"tango://{tango_host}/{DEVICE}").ping() > 0
    except tango.DevFailed:
        return False
