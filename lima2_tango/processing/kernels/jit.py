"""How kernels are compiled: without the GIL, once per pixel type and machine, and with no more wrappers than needed."""

from functools import partial

from numba import njit

kernel = partial(njit, nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
"""Decorator of a loop that Python calls."""
part = partial(njit, nogil=True, error_model="numpy", no_cfunc_wrapper=True, no_cpython_wrapper=True)
"""Decorator of what only kernels of the same file call; it is cached inside them."""
