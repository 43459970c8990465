"""Measurements of what users wait for, each against its reference in the same run."""
