"""Who is let in: tokens, names of hosts, files."""

import stat
from pathlib import Path

import pytest

from lima2_tango.core.errors import NotAvailableError, ParamError
from lima2_tango.web.access import DeniedError, Door, Role, Tokens, is_loopback
from lima2_tango.web.actions import below
from lima2_tango.web.serve import Where

LONG = "a-token-that-is-long-enough"


def token_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_that_is_missing_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    made = Tokens.read(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Tokens.read(path) == made
    assert [made.role(token) for token in made.names.values()] == [Role.OPERATOR, Role.READER]
    assert len(set(made.names.values())) == 2


@pytest.mark.parametrize("token", ["", "operator", LONG[:-1], LONG + "x", "ä" * 30, "\udc80"])
def test_another_token_is_nobodys(tmp_path: Path, token: str) -> None:
    tokens = Tokens.read(token_file(tmp_path, f"# ours\noperator {LONG}\n\nread-only {LONG[::-1]}\n"))
    assert tokens.role(token) is Role.NOBODY
    assert tokens.role(LONG) is Role.OPERATOR
    assert tokens.role(LONG[::-1]) is Role.READER


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("", 0o600, "one token of its own"),
        ("# nothing\n", 0o600, "one token of its own"),
        (f"operator {LONG}\nread-only {LONG}\n", 0o600, "one token of its own"),
        (f"operator {LONG}\noperator {LONG}x\n", 0o600, "one token of its own"),
        ("operator short\n", 0o600, "at least 20"),
        (f"boss {LONG}\n", 0o600, "read-only TOKEN"),
        (f"operator {LONG} more\n", 0o600, "read-only TOKEN"),
        (f"operator {LONG}\n", 0o644, "chmod 600"),
    ],
)
def test_a_file_that_would_let_in_the_wrong_people_is_refused(tmp_path: Path, text: str, mode: int, why: str) -> None:
    with pytest.raises(ParamError, match=why):
        Tokens.read(token_file(tmp_path, text, mode))


def test_a_folder_is_no_token_file(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match="--token-file"):
        Tokens.read(tmp_path)
    with pytest.raises(ParamError, match="cannot be made"):
        Tokens.read(tmp_path / "none" / "tokens")


DOOR = Door.of("127.0.0.1", 8000, ["Beamline.example"])


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST", "beamline.example:443"]
)
@pytest.mark.parametrize("by_page", [False, True])
def test_the_page_itself_may_ask(host: str, by_page: bool) -> None:
    DOOR.check(host, f"http://{host}" if by_page else None)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", None),
        ("", None),
        ("evil.example:8000", "http://evil.example:8000"),
        ("localhost:8000", "http://evil.example"),
        ("localhost:8000", "http://localhost:9000"),
        ("localhost:8000", "null"),
        ("localhost.evil.example", None),
        ("127.0.0.1:8000:9", None),
    ],
)
def test_another_site_may_not(host: str, origin: str | None) -> None:
    with pytest.raises(DeniedError):
        DOOR.check(host, origin)


def test_everywhere_is_no_name() -> None:
    with pytest.raises(DeniedError):
        Door.of("0.0.0.0", 8000).check("0.0.0.0:8000", None)


@pytest.mark.parametrize(("listen", "ours"), [("127.0.0.1", 1), ("127.8.8.8", 1), ("::1", 1), ("localhost", 1)])
def test_loopback_is_this_computer(listen: str, ours: bool) -> None:
    assert is_loopback(listen) == ours
    Where(listen).check()


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "192.168.1.5", "beamline.example", ""])
def test_what_others_reach_demands_tokens(listen: str, tmp_path: Path) -> None:
    assert not is_loopback(listen)
    with pytest.raises(ParamError, match="--token-file"):
        Where(listen).check()
    Where(listen, token_file=tmp_path / "tokens").check()


def test_tls_needs_both_of_its_files(tmp_path: Path) -> None:
    with pytest.raises(ParamError, match="--key"):
        Where(certificate=tmp_path / "cert.pem").check()
    with pytest.raises(ParamError, match="no such file"):
        Where(certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem").check()


def test_files_below_the_data_roots_are_handed_out_and_no_others(tmp_path: Path) -> None:
    root, secret = tmp_path / "data", tmp_path / "secret"
    root.mkdir()
    secret.write_text("x")
    (root / "a.h5").write_text("x")
    (root / "link.h5").symlink_to(secret)
    assert below(str(root / "a.h5"), [str(root)]) == root / "a.h5"
    for path in (secret, root / "link.h5", root / ".." / "secret", tmp_path / "data2", "a.h5", "", "\0", "x" * 5000):
        with pytest.raises(ParamError):
            below(str(path), [str(root)])
    for path in (root / "none.h5", root):
        with pytest.raises(NotAvailableError):
            below(str(path), [str(root)])
    with pytest.raises(NotAvailableError, match="data_roots"):
        below(str(root / "a.h5"), [])
