"""Tango devices of the simulated beamline; not a part of any acquisition."""
