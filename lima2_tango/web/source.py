"""Where the pictures of a run come from."""

from dataclasses import dataclass

from lima2_tango.client.live import Live, LiveFrame
from lima2_tango.control.parameters import pipelines

DEFAULT_STREAM = ("getFrame", "processed")
"""Of a pipeline that this installation does not know."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pictures of a run come from."""

    uuid: str = ""
    pipeline: str = ""
    """Tango class of the processing."""
    getter: str = ""
    """Command that gives frames; empty where this pipeline has none."""
    label: str = ""

    def silence(self, frame: LiveFrame | None) -> str:
        """Why there is no picture; empty where there is one."""
        if not self.uuid:
            return "No frame yet: start an acquisition."
        if not self.getter:
            return f"The pipeline {self.pipeline} keeps no frames to look at."
        return "" if frame is not None and frame.uuid == self.uuid else "No frame of this run yet."


def find_source(live: Live, uuid: str) -> Source:
    """What the pipeline of a run shows; an empty source where its devices are not there yet, which is asked again."""
    name = live.pipeline_class(uuid) if uuid else ""
    if not name:
        return Source()
    plugin = pipelines().get(name)
    if plugin is None:
        return Source(uuid, name, *DEFAULT_STREAM)
    getter = "getFrame" if "getFrame" in plugin.frame_commands else next(iter(plugin.frame_commands), "")
    return Source(uuid, name, getter, plugin.frame_commands.get(getter, ""))
