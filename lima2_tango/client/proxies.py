"""Proxies of devices, made so that a frozen device holds up nobody else."""

import tango


def bounded(proxy: tango.DeviceProxy, timeout_ms: int) -> tango.DeviceProxy:
    """The proxy, of a device that has just answered, with calls that wait for so long [ms]; raises DevFailed.

    It is asked first: to give a proxy its timeout, PyTango connects where it is not connected, and keeps Python's lock
    meanwhile. With a frozen device no thread of the process went on for 3 s.
    """
    proxy.ping()
    proxy.set_timeout_millis(timeout_ms)
    return proxy
