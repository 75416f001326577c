"""How many threads a training process has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def use(share: int = 1) -> None:
    """One thread for each core that this process may run on, unless the user said otherwise.

    Args:
        share: how many processes of ours share those cores.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // share))


@contextmanager
def alone() -> Iterator[None]:
    """While the other processes wait, their cores are this one's."""
    import torch

    before = torch.get_num_threads()
    use()
    try:
        yield
    finally:
        torch.set_num_threads(before)
