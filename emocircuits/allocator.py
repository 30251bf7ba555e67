"""What the C library does with memory that was freed."""

import ctypes
import sys

# mallopt's names in malloc.h, and the values set
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
FROM_HEAP = 1 << 27  # bytes of the largest block taken from the heap: activations of a batch are smaller
KEPT = 1 << 30  # bytes of freed memory that stay


def keep_freed_memory() -> None:
    """The process keeps memory that was freed, up to a gigabyte, for the next tensor.

    glibc gives a tensor of megabytes back to the system when it is freed, and the next one of its size pays
    for every page again, which can be a third of a small model's forward pass. Each thread keeps a heap of
    its own: one for all made two threads slower. Does nothing where the C library is another one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for name, value in ((M_MMAP_THRESHOLD, FROM_HEAP), (M_TRIM_THRESHOLD, KEPT)):
        mallopt(name, value)
