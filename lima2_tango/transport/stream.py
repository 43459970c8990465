"""Streams between ranks: producers and consumers, elements in flight up to a bound, an end that says how many it was.

The abstraction is that of MPIStream (I. B. Peng, S. Markidis et al., "A data streaming model in MPI", ExaMPI 2015; "MPI
Streams for HPC Applications", arXiv 1708.01306). A pair of ranks of one host passes elements through a ring in shared
memory, any other pair by messages. Nothing is collective and no call of MPI blocks: each end is driven by its caller's
thread, and waits with a bound.
"""

from .consumer import Consumer
from .elements import WHOLE, Element
from .fabric import Fabric, SendMode
from .producer import Producer
from .spec import StreamSpec, StreamStatistics

__all__ = ["WHOLE", "Consumer", "Element", "Fabric", "Producer", "SendMode", "StreamSpec", "StreamStatistics"]
