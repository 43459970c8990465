"""Lima2's design in Python: a control Tango device coordinates receiver Tango devices."""

__version__ = "0.1.0"
