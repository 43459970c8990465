"""A fly scan: the motor never stops, and the trigger source exposes a frame at each place that it passes.

    python fly_scan.py id00/limacontrol/beamline FOLDER

The trigger source's wire is a UDP port, which the Simulator listens on as its trigger input. Where the motor was
is latched by the trigger source, pulse by pulse, and written beside the frames once the run is over.
"""

import sys

import numpy as np
from beamline import PATIENCE, motor, move, shutter, trigger

from lima2_tango.client import connect
from lima2_tango.client.positions import Monitor, Positioner, write_positions

control, folder = sys.argv[1:3]
first, step, count = -2.0, 0.2, 21
shutter.mode = "manual"
motor.velocity = 50
move(first - 0.5)  # the run-up

with connect(control) as lima:
    run = lima.acquire(
        nb_frames=count,
        expo_time=0.005,
        trigger_mode="external",
        saving={"base_path": folder, "filename_prefix": "fly_scan"},
        changes={"det.trigger_port": trigger.wire_port},
    )
    with run:
        shutter.Open()
        motor.velocity = 2  # a pulse every 100 ms: longer than the exposure, so that none is missed
        trigger.start, trigger.step, trigger.count = first, step, count
        trigger.width, trigger.least_period = 0.005, 0.05
        trigger.Arm()
        move(first + step * count)
        record = run.wait(PATIENCE)
        shutter.Close()

write_positions(record, {"motor": Positioner(trigger.positions, "mm"), "monitor": Monitor(trigger.counts)})
with run.read() as saved:
    places = saved.positions()["motor"]
late = np.abs(places - (first + step * np.arange(count))).max()
print(f"{len(places)} frames from {places[0]:.1f} to {places[-1]:.1f} mm, none more than {late:.3f} mm late")
