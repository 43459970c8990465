"""`lima2 doctor`: is this computer ready for a detector? It looks, says what to change, and changes nothing."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from .hostchecks import Asked, Finding, Verdict, look
from .output import AsJson, add, print_json, print_table, table

EXAMPLES = """Example: lima2 doctor

Example: lima2 doctor --folder /data --interface ens1f0 --receivers 4 --detector 10.1.1.5:80

Example: lima2 doctor --json
"""
COLOURS = {Verdict.GOOD: "green", Verdict.CHANGE: "yellow", Verdict.UNKNOWN: "dim"}

Folder = Annotated[Path, typer.Option(help="Where frames will be saved; a file that goes again is written there.")]
Receivers = Annotated[int, typer.Option(min=1, help="Receivers that will run on this computer.")]
Interface = Annotated[str, typer.Option(help="Network interface of the detector; all that are up where none is named.")]
DetectorAddress = Annotated[str, typer.Option("--detector", metavar="HOST[:PORT]", help="Also ask this detector.")]


def doctor(
    folder: Folder = Path(),
    receivers: Receivers = 1,
    interface: Interface = "",
    detector: DetectorAddress = "",
    as_json: AsJson = False,
) -> None:
    """Check this computer: socket buffers, MTU, clock, disk, memory, cores; and say what to change.

    It changes nothing. Exit codes: 0 nothing to change, 1 something is.
    """
    findings = look(Asked(folder, receivers, interface, detector))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.verdict is Verdict.CHANGE for finding in findings):
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    made = table("what", "found", "verdict")
    for finding in findings:
        add(made, finding.what, finding.found, Text(str(finding.verdict), COLOURS[finding.verdict]))
    print_table(made)
    for finding in findings:
        if finding.advice:
            typer.echo(f"\n{finding.what}: {finding.advice}")
