"""Detectors that speak their real protocols over real sockets, for users, demos and tests without one."""
