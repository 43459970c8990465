"""Tango drives us here: parse, delegate, translate errors. No decisions."""
