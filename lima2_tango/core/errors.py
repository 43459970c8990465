"""
Lima2Error
 + ParamError       the user asked for something invalid      -> fix the request
 + StateError       not now: the state machine refused        -> wait, stop or reset
 + GraphError       a pipeline does not fit together          -> fix the pipeline
 + MemoryBudgetError the frames do not fit the memory budget   -> smaller frames or a larger budget
 + DetectorError    the hardware or its protocol misbehaved   -> look at the detector
   + WireError      a message from it could not be understood
 + SavingError      a file could not be written               -> look at the disk
 + ProcessingError  a frame could not be processed            -> the message names the frame
 + AgreementError   a rank did not do its part in time        -> the message names the rank
 + DataLossError    frames are missing                        -> the series is suspect
 + NotAvailableError     the frame asked for is not held any more, or not yet
"""

import json


class Lima2Error(Exception):
    """Base of every error we raise on purpose: one sentence, and the facts beside it."""

    def __init__(self, what: str, **info: object) -> None:
        super().__init__(what)
        self.what = what
        self.info = info

    def payload(self) -> str:
        """JSON `{"what", "errinfo"}` as Lima2's clients parse it out of a Tango error or `last_error`."""
        return json.dumps({"what": self.what, "errinfo": self.info}, default=str)


class ParamError(Lima2Error):
    """A parameter is refused; `path` is its JSON path (`$.acq.nb_frames`), `value` what was given."""

    def __init__(self, path: str, value: object, reason: str) -> None:
        super().__init__(f"{path} = {_shown(value)}: {reason}", path=path)
        self.path = path
        self.value = value
        self.reason = reason


class StateError(Lima2Error): ...


class GraphError(Lima2Error): ...


class MemoryBudgetError(Lima2Error): ...


class DetectorError(Lima2Error): ...


class WireError(DetectorError): ...


class SavingError(Lima2Error): ...


class ProcessingError(Lima2Error): ...


class AgreementError(Lima2Error): ...


class DataLossError(Lima2Error): ...


class NotAvailableError(Lima2Error): ...


def as_lima2(error: Exception) -> Lima2Error:
    """The error itself, or a foreign one in our words."""
    return error if isinstance(error, Lima2Error) else Lima2Error(f"{type(error).__name__}: {error}")


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."
