"""Compiled loops over frames.

Every kernel releases the GIL and takes frames as `layout.flat` gives them: [frame, pixel], C-contiguous and read-only,
so that each pixel type compiles once. A frame's pixels are the first of its row; shapes come as tuples.
"""
