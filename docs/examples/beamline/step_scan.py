"""A step scan: move, trigger one frame, move on. The detector is prepared once for all points.

    python step_scan.py id00/limacontrol/beamline FOLDER

It needs the devices of `lima2 simulate beamline` in the same Tango database (TANGO_HOST).
"""

import sys

import numpy as np
from beamline import PATIENCE, monitor, motor, move, shutter, wait_for

from lima2_tango.client import Run, connect
from lima2_tango.client.positions import Monitor, Positioner, write_positions


def step(run: Run, number: int, place: float) -> tuple[float, int]:
    """Take frame `number` at a place; returns where the motor was and what the monitor counted."""
    move(place)
    read = motor.position, monitor.counts
    run.trigger()
    wait_for(lambda: run.progress().nb_frames_acquired > number, f"frame {number}")
    return read


control, folder = sys.argv[1:3]
places = np.linspace(-2, 2, 9)
motor.velocity = 50
monitor.integration_time = 0.01
shutter.mode = "manual"

with connect(control) as lima:
    saving = {"base_path": folder, "filename_prefix": "step_scan"}
    lima.configure(nb_frames=len(places), expo_time=0.01, trigger_mode="software", saving=saving)
    with lima.prepare() as run:
        run.start()
        shutter.Open()
        read = [step(run, number, place) for number, place in enumerate(places)]
        shutter.Close()
        record = run.wait(PATIENCE)

positions, counts = map(np.array, zip(*read, strict=True))
write_positions(record, {"motor": Positioner(positions, "mm"), "monitor": Monitor(counts)})
with run.read() as saved:
    for frame, place in zip(saved, saved.positions()["motor"], strict=True):
        print(f"frame {frame.index} at {place:+.2f} mm, mean {frame.image.mean():.3f}")
