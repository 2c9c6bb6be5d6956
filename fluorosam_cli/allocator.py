"""What glibc does with memory that was freed; elsewhere nothing is changed. The numbers are those of its malloc.h."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8
SMALL_BYTES = 2**21


def keep_freed_memory() -> None:
    """Keep it: each training step on a CPU asks for the same large pieces again, which the kernel would clear (8 % of
    a step of `small`).
    """
    _set(M_MMAP_MAX, 0)
    _set(M_TRIM_THRESHOLD, 2**31 - 1)
    _set(M_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Give large pieces back at once, and let threads share the small ones: what each has freed and keeps to itself
    adds up to tens of MB that nobody uses.
    """
    _set(M_MMAP_THRESHOLD, SMALL_BYTES)
    _set(M_ARENA_MAX, 1)


def _set(option: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)
