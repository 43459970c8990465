"""The names of a series' files, and whether they can be used: all that is refused before a disk is touched."""

import os
import re
import string
from collections.abc import Collection

from lima2_tango.core.errors import ParamError
from lima2_tango.core.storage import SavingParams

from .layout import IN_ENTRY, IN_INSTRUMENT

KEYS = ("filename_prefix", "filename_rank", "file_number", "filename_suffix")
NAME_MAX = 255
"""Bytes of a file name on every file system that matters."""
HIDDEN_BYTES = len(".") + len(".01234567.reserve")
"""Bytes that the hidden name of a file under way has more."""
_DECIMAL = re.compile(r"0?\d*d?")


class FileNames:
    """`name(number)` for the files of one receiver; what cannot work raises ParamError here."""

    def __init__(self, params: SavingParams, json_path: str, rank: int, nb_files: int | None) -> None:
        """`nb_files` bounds the number of files; None when it is not known."""
        self._params = params
        self._path = json_path
        self._first = params.start_number
        self._end = None if nb_files is None else params.start_number + nb_files
        used = self._fields()
        self._pattern = self._regex()
        self._check_distinct(used, rank, nb_files)
        self._check_texts(self.name(params.start_number))

    def name(self, number: int) -> str:
        try:
            return self._format(self._params.filename_format, number)
        except (ValueError, IndexError, KeyError) as error:
            raise self._refusal("filename_format", f"it cannot be filled in ({error}); correct the format") from error

    def taken(self, listing: Collection[str]) -> list[str]:
        """Those of the folder's names that this series could use, in order of their number."""
        matches = (self._pattern.fullmatch(name) for name in listing)
        numbers = {int(m["number"]) if self._numbered else self._first for m in matches if m}
        present = set(listing)
        mine = (n for n in sorted(numbers) if n >= self._first and (self._end is None or n < self._end))
        return [name for name in map(self.name, mine) if name in present]

    @property
    def _numbered(self) -> bool:
        return "number" in self._pattern.groupindex

    def _format(self, text: str, number: int) -> str:
        p = self._params
        return text.format(
            filename_prefix=p.filename_prefix,
            filename_rank=p.filename_rank,
            file_number=number,
            filename_suffix=p.filename_suffix,
        )

    def _fields(self) -> set[str]:
        """The keys that the format uses."""
        try:
            parsed = list(string.Formatter().parse(self._params.filename_format))
        except ValueError as error:
            raise self._refusal("filename_format", f"it is not a format ({error}); use {_shown_keys()}") from error
        used = {name for _, name, _, _ in parsed if name is not None}
        if unknown := sorted(used.difference(KEYS)):
            reason = f"there is no key {{{unknown[0]}}}; the keys are {_shown_keys()}"
            raise self._refusal("filename_format", reason)
        if any(name == "file_number" and not _DECIMAL.fullmatch(spec or "") for _, name, spec, _ in parsed):
            raise self._refusal("filename_format", "file_number takes a decimal format, such as {file_number:05d}")
        if wide := [spec for _, _, spec, _ in parsed if spec and (len(spec) > 4 or "{" in spec)]:
            raise self._refusal("filename_format", f"{wide[0]!r} is no width that a file name can have; such as 05d is")
        return used

    def _regex(self) -> re.Pattern[str]:
        """Matches the names of all numbers, and maybe others: `taken` compares with the real name."""
        pattern = ""
        for literal, name, spec, conversion in string.Formatter().parse(self._params.filename_format):
            pattern += re.escape(literal)
            if name == "file_number":
                pattern += r"\d+" if "(?P<number>" in pattern else r" *(?P<number>\d+)"
            elif name is not None:
                one = f"{{{name}{'!' + conversion if conversion else ''}:{spec}}}"
                pattern += re.escape(self._filled(one))
        return re.compile(pattern, re.ASCII)

    def _filled(self, one: str) -> str:
        try:
            return self._format(one, 0)
        except (ValueError, IndexError, KeyError) as error:
            raise self._refusal("filename_format", f"{one} cannot be filled in ({error})") from error

    def _check_distinct(self, used: set[str], rank: int, nb_files: int | None) -> None:
        p = self._params
        if p.filename_rank != rank:
            reason = f"this receiver has rank {rank}; give {rank}, or let the conductor set it"
            raise self._refusal("filename_rank", reason)
        if rank > 0 and "filename_rank" not in used:
            reason = "several receivers would write the same file; add {filename_rank} to the format"
            raise self._refusal("filename_format", reason)
        if "file_number" not in used and nb_files != 1:
            many = "an unknown number of" if nb_files is None else str(nb_files)
            reason = f"the series takes {many} files; add {{file_number}} to the format, or raise nb_frames_per_file"
            raise self._refusal("filename_format", reason)

    def _check_texts(self, name: str) -> None:
        p = self._params
        groups = ("nx_entry_name", "nx_instrument_name", "nx_detector_name")
        for key in ("base_path", "filename_prefix", "filename_suffix", *groups):
            if bad := [sign for sign in ("\0", ":") if sign in getattr(p, key)]:
                raise self._refusal(key, f"it contains {bad[0]!r}, which clients cannot read; leave it out")
        if bad := [sign for sign in ("\0", ":", "/") if sign in name]:
            raise self._refusal("filename_format", f"the file name {name!r} contains {bad[0]!r}; leave it out")
        if len(os.fsencode(name)) + HIDDEN_BYTES > NAME_MAX:
            raise self._refusal("filename_prefix", f"the file name takes more than {NAME_MAX - HIDDEN_BYTES} bytes")
        for key, reserved in zip(groups, ((), IN_ENTRY, IN_INSTRUMENT), strict=True):
            if getattr(p, key) in (".", "..", *reserved):
                raise self._refusal(key, "this name has another meaning in the file; choose another one")

    def _refusal(self, key: str, reason: str) -> ParamError:
        return ParamError(f"{self._path}.{key}", getattr(self._params, key), reason)


def _shown_keys() -> str:
    return ", ".join(f"{{{key}}}" for key in KEYS)
