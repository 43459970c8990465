"""The shutter in its three modes: by hand, with each frame, with each run.

python shutter.py id00/limacontrol/beamline
"""

import sys

import tango
from beamline import PATIENCE, monitor, move, shutter, trigger, wait_for

from lima2_tango.client import Client, connect


def by_hand() -> None:
    """It stays as it is, whatever the detector does."""
    shutter.mode = "manual"
    dark = monitor.rate
    shutter.Open()
    wait_for(lambda: shutter.is_open, "the shutter")
    print("manual: open, and the monitor sees the beam:", monitor.rate > dark)
    shutter.Close()


def with_each_frame(lima: Client) -> None:
    """Open while the trigger source's pulse is high, which is how long a gated frame is exposed."""
    shutter.mode = "auto_frame"
    trigger.width = 0.02
    before = shutter.nb_openings
    changes = {"det.trigger_port": trigger.wire_port}
    with lima.acquire(nb_frames=3, trigger_mode="gate", changes=changes) as run:
        for _ in range(3):
            trigger.Pulse()
        run.wait(PATIENCE)
    print("auto_frame: opened", shutter.nb_openings - before, "times for 3 frames; open now:", shutter.is_open)


def with_each_run(lima: Client) -> None:
    """Open from Prepare to the end. Who wants no dark frame waits for the shutter before Start."""
    shutter.mode = "auto_sequence"
    before = shutter.nb_openings
    lima.configure(nb_frames=10, expo_time=0.01, trigger_mode="internal", saving=None)
    with lima.prepare() as run:
        wait_for(lambda: shutter.is_open, "the shutter")
        run.start()
        run.wait(PATIENCE)
    wait_for(lambda: shutter.state() == tango.DevState.CLOSE, "the shutter")
    print("auto_sequence: opened", shutter.nb_openings - before, "time for 10 frames; open now:", shutter.is_open)


move(0)
by_hand()
with connect(sys.argv[1]) as client:
    with_each_frame(client)
    with_each_run(client)
shutter.mode = "manual"
