"""Who may look and who may command; from where a browser may ask at all."""

import ipaddress
import os
import secrets
import socket
import stat
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Self

import psutil

from lima2_tango.core.errors import Lima2Error, ParamError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})
SAFE = frozenset(string.ascii_letters + string.digits + "-_")
"""What a browser's cookie and an address hold as it is."""
SHORTEST = 20
"""Characters of a token that nobody guesses."""


class Role(IntEnum):
    NOBODY = 0
    READER = 1
    """Sees everything, changes nothing."""
    OPERATOR = 2


NAMES = {"operator": Role.OPERATOR, "read-only": Role.READER}


class DeniedError(Lima2Error):
    """Not with this token, or not from there."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a person must know; nothing where there are none."""

    by_role: Mapping[Role, str] = field(default_factory=dict)

    def role(self, token: str) -> Role:
        """What a token allows; without tokens everybody who reaches us may do everything."""
        if not self.by_role:
            return Role.OPERATOR
        for role, known in self.by_role.items():
            if secrets.compare_digest(known.encode(), token.encode("utf-8", "replace")):
                return role
        return Role.NOBODY

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a file of lines `operator TOKEN` and `read-only TOKEN`; made, for its owner alone, where it is missing.

        Raises ParamError.
        """
        if not path.exists():
            _make(path)
        _check_private(path)
        try:
            lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeError) as error:
            raise ParamError("--token-file", str(path), f"it cannot be read: {error}") from error
        found = [_parsed(path, words) for words in lines if words and not words[0].startswith("#")]
        if not found or len({token for _, token in found}) < len(found) or len(dict(found)) < len(found):
            raise ParamError(
                "--token-file", str(path), "give each role one token of its own; remove it to have it made"
            )
        return cls(dict(found))

    @property
    def names(self) -> dict[str, str]:
        """Token by the name of its role."""
        return {name: self.by_role[role] for name, role in NAMES.items() if role in self.by_role}


@dataclass(frozen=True, slots=True)
class Door:
    """Names under which browsers may know us: another name is another site's trick."""

    hosts: frozenset[str]
    port: int

    def check(self, host: str, origin: str | None) -> None:
        """Raise DeniedError for a request by another name, or out of another site's page."""
        name = _name(host)
        if name not in self.hosts:
            known = ", ".join(sorted(self.hosts))
            raise DeniedError(f"{name or 'no name'} is no name of this page: use {known}, or start it with --name")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise DeniedError("this was asked by a page of another site: open this page itself")

    @classmethod
    def of(cls, listen: str, port: int, names: Iterable[str] = ()) -> Self:
        """For an address to listen on, and more names that lead there."""
        own = {*LOOPBACK, listen.lower(), *(name.lower() for name in names)}
        if listen in EVERYWHERE:
            own |= {socket.gethostname().lower(), socket.getfqdn().lower()}
            own |= {_plain(each.address) for addresses in psutil.net_if_addrs().values() for each in addresses}
        return cls(frozenset(own - EVERYWHERE - {""}), port)


def is_loopback(listen: str) -> bool:
    """Only this computer reaches the address."""
    try:
        return listen == "localhost" or ipaddress.ip_address(listen).is_loopback
    except ValueError:
        return False


def _name(host: str) -> str:
    """A Host header without its port."""
    text = host.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def _plain(address: str) -> str:
    return address.partition("%")[0].lower()


def _make(path: Path) -> None:
    text = "".join(f"{name} {secrets.token_urlsafe(24)}\n" for name in NAMES)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ParamError("--token-file", str(path), f"it is not there and cannot be made: {error.strerror}") from error


def _check_private(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ParamError("--token-file", str(path), f"it cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise ParamError("--token-file", str(path), "it is no file: give one of lines `operator TOKEN`")
    if mode & 0o077:
        raise ParamError("--token-file", str(path), f"others can read it: chmod 600 {path}")


def _parsed(path: Path, words: list[str]) -> tuple[Role, str]:
    if len(words) != 2 or words[0] not in NAMES:
        raise ParamError("--token-file", str(path), "each line is `operator TOKEN` or `read-only TOKEN`")
    if len(words[1]) < SHORTEST:
        raise ParamError(
            "--token-file", str(path), f"the {words[0]} token is short: give at least {SHORTEST} characters"
        )
    if not set(words[1]) <= SAFE:
        raise ParamError(
            "--token-file", str(path), f"the {words[0]} token has a character that is none of A-Z a-z 0-9 - _"
        )
    return NAMES[words[0]], words[1]
