"""`lima2 run`: the options, and what is told at the end."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from lima2_tango.client import Client, connect
from lima2_tango.client.reach import check_control
from lima2_tango.core.errors import Lima2Error, ParamError, StateError
from lima2_tango.core.state import State

from .acquiring import BAD_INPUT, Order, Outcome, acquire
from .deaths import witness
from .paramfile import read_file
from .rundir import check_awake, find_system
from .up import AsJson, Folder, Name

EXAMPLES = """Example: lima2 run simulator --frames 100 --time 0.01 --save data --prefix test

Example: lima2 run simulator --frames 1000 --roi 10,20,64,32 --set det.width=512

Example: lima2 run --device id00/limacontrol/simulator --tango-host localhost:10000 --frames 10 --json
"""

FILES = {("control", "processing"): "receiver", ("acq_params", "proc_params"): "camera"}
"""Keys of the files that `lima2 params` prints and `SaveConfig` writes: acquisition and processing, and one more."""

MEANS = {
    "--frames": ("acq.nb_frames",),
    "--time": ("acq.expo_time",),
    "--save": ("saving.enabled", "saving.base_path"),
    "--prefix": ("saving.filename_prefix",),
    "--roi": ("statistics.enabled", "statistics.rect_rois"),
    "--pipeline": ("class_name",),
}
"""Parameters that an option sets, which --set then cannot."""
STEP = re.compile(r"[.\[\]]")
TAKEN = re.compile(r"choose another filename_prefix or base_path, or (\w+\.file_exists_policy=overwrite)")
"""The way out that a refusal names where files exist already, with the parameter's path."""

Frames = Annotated[int | None, typer.Option(min=0, help="Frames to acquire; 0 until Ctrl-C.")]
Time = Annotated[float | None, typer.Option("--time", metavar="SECONDS", help="Exposure time of a frame.")]
Save = Annotated[
    str | None,
    typer.Option(metavar="FOLDER", help="Save the frames to this folder; without it nothing is saved."),
]
Prefix = Annotated[str | None, typer.Option(help="Beginning of the file names, with --save.")]
Rois = Annotated[
    list[str] | None, typer.Option("--roi", metavar="X,Y,W,H", help="Region of interest in pixels; may be repeated.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="A parameter as `lima2 params CAMERA PIPELINE` prints it, such as acq.trigger_mode=software; the value "
        "is JSON, or a text; may be repeated.",
    ),
]
Pipeline = Annotated[str | None, typer.Option(help="Processing pipeline, as `lima2 pipelines` lists it.")]
ParamsFile = Annotated[
    Path | None, typer.Option("--params", help="Begin with this file, from `lima2 params` or SaveConfig.")
]
Reset = Annotated[bool, typer.Option("--reset", help="Clear the failure of an earlier run first.")]
DeviceName = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="Control device, in place of SYSTEM.")
]
TangoHost = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Tango database of --device; else that of TANGO_HOST.")
]


def run(
    system: Name = None,
    folder: Folder = None,
    frames: Frames = None,
    exposure: Time = None,
    save: Save = None,
    prefix: Prefix = None,
    rois: Rois = None,
    changes: Changes = None,
    pipeline: Pipeline = None,
    params: ParamsFile = None,
    reset: Reset = False,
    as_json: AsJson = False,
    device: DeviceName = None,
    tango_host: TangoHost = None,
) -> None:
    """Acquire frames through the control device of a system that runs.

    Shows how the run gets on, and names the files at its end. Ctrl-C stops the acquisition and keeps what was taken;
    a second one leaves at once. What no option names is as the control has it, from its configuration or the last run,
    but for saving and regions, which are for this run alone.

    Exit codes: 0 all frames taken; 1 the run failed, or another client stopped it before; 2 refused or unreachable;
    130 stopped by Ctrl-C.
    """
    try:
        wanted = order(frames, exposure, saving(save, prefix), rois or (), changes or (), pipeline, params)
        name, host = control_device(system, folder, device, tango_host)
        check_control(name, host)
        seen = witness(name, host, folder)
        with connect(name, host) as client:
            _check_fit(client, reset)
            outcome = acquire(client, wanted, Console(stderr=True))
        if outcome.cut_off and (deaths := seen.deaths()):
            outcome.error += f". {deaths}"
    except Lima2Error as error:
        outcome = Outcome(BAD_INPUT, error.what)
    outcome.error = as_typed(outcome.error)
    _tell(outcome, as_json)


def order(
    frames: int | None,
    exposure: float | None,
    wanted_saving: dict[str, object] | None,
    rois: Sequence[str],
    changes: Sequence[str],
    pipeline: str | None,
    params: Path | None,
) -> Order:
    """What the options ask for; raises ParamError with the option where one cannot be understood."""
    begin = Order({}, *(read_params(params) if params is not None else (None, None)))
    if frames is not None:
        begin.settings["nb_frames"] = frames
    if params is None or wanted_saving is not None:
        begin.settings["saving"] = wanted_saving
    if params is None or rois:
        begin.settings["rois"] = [region(text) for text in rois]
        begin.settings["profiles"] = ()
    if exposure is not None:
        if not math.isfinite(exposure) or round(exposure * 1e6) < 1:
            raise ParamError("--time", str(exposure), "give seconds, at least 0.000001")
        begin.settings["expo_time"] = exposure
    if pipeline is not None:
        begin.settings["pipeline"] = pipeline
    prefix = (wanted_saving or {}).get("filename_prefix")
    given = [frames, exposure, wanted_saving, prefix, rois or None, pipeline]
    options = [option for option, value in zip(MEANS, given, strict=True) if value is not None]
    begin.settings["changes"] = _changes(changes, options)
    return begin


def saving(folder: str | None, prefix: str | None) -> dict[str, object] | None:
    """Parameters of the saving; None saves nothing."""
    if folder is None:
        if prefix is not None:
            raise ParamError("--prefix", prefix, "this names files: say with --save where they go")
        return None
    if not folder.strip():
        raise ParamError("--save", folder, "name a folder; leave the option out to save nothing")
    wanted: dict[str, object] = {"base_path": str(Path(folder).absolute())}
    return wanted if prefix is None else {**wanted, "filename_prefix": prefix}


def read_params(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Acquisition and processing parameters of a JSON or YAML file; raises ParamError."""
    content = read_file(path)
    if isinstance(content, dict):
        for (acq, proc), other in FILES.items():
            if acq in content and not content.keys() - {acq, proc, other}:
                if other == "receiver" and content.get(other, content[acq]) != content[acq]:
                    reason = "control and receiver differ: the control gives all receivers its own"
                    raise ParamError("--params", str(path), reason)
                return content[acq], content.get(proc)
    raise ParamError("--params", str(path), "give a file as `lima2 params` prints it, or as SaveConfig writes it")


def control_device(
    system: str | None, folder: Path | None, device: str | None, tango_host: str | None
) -> tuple[str, str | None]:
    """Name of the control and its Tango database; raises ParamError or NotUpError where that is not said."""
    if device is None:
        if tango_host is not None:
            raise ParamError("--tango-host", tango_host, "say with --device which control device there")
        found = find_system(system, folder)
        check_awake(found)
        return found.control, found.tango_host
    if system is not None or folder is not None:
        raise ParamError("--device", device, f"name either this device or the system {system or folder}, not both")
    return device, tango_host


def region(text: str) -> tuple[int, int, int, int]:
    """x, y, width and height of what `--roi` asks for; raises ParamError."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ParamError("--roi", text, "give x,y,width,height in pixels, such as 10,20,64,32") from error
    return x, y, width, height


def as_typed(error: str) -> str:
    """The sentence with its way out in the options of this command, where files exist that may not be replaced."""
    return TAKEN.sub(r"give another --prefix or --save, or --set \1", error)


def _changes(texts: Sequence[str], options: Sequence[str]) -> dict[str, object]:
    """What `--set` asks for; raises ParamError where an option, or another --set, says something of the same."""
    said = {path: option for option in options for path in MEANS[option]}
    wanted: dict[str, object] = {}
    for text in texts:
        path, value = _change(text)
        for other, option in said.items():
            if _overlap(path, other):
                raise ParamError("--set", text, f"{option} says this already: give one of the two")
        said[path] = "another --set"
        wanted[path] = value
    return wanted


def _overlap(path: str, other: str) -> bool:
    """One is the other, or within it."""
    steps, others = ([step for step in STEP.split(each.removeprefix("$.")) if step] for each in (path, other))
    return steps[: len(others)] == others[: len(steps)]


def _check_fit(client: Client, reset: bool) -> None:
    """Raise StateError for a control that a failure holds, with the way out; clear it where that is asked for."""
    if client.state() is not State.FAULT:
        return
    if not reset:
        why = client.last_error() or "it gives no reason"
        raise StateError(
            f"{client.name} is in fault since its last run failed ({why}): lima2 run with --reset, and the options as "
            "before, clears that and acquires"
        )
    client.reset()


def _change(text: str) -> tuple[str, object]:
    path, sign, value = text.partition("=")
    if not sign or not path:
        raise ParamError("--set", text, "give path=value, such as acq.trigger_mode=software")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


def _tell(outcome: Outcome, as_json: bool) -> NoReturn:
    """Files on stdout, so that they can be piped; all else on stderr."""
    if outcome.error:
        typer.echo(f"error: {outcome.error}", err=True)
    if as_json:
        typer.echo(json.dumps(outcome.as_json()))
    elif outcome.record is not None:
        typer.echo(outcome.summary(), err=True)
        for file in outcome.record.files:
            typer.echo(str(file))
        if unnamed := outcome.record.nb_unnamed:
            typer.echo(f"and {unnamed} more files, beside these", err=True)
    raise typer.Exit(outcome.code)
