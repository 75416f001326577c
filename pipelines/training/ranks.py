"""Several processes that train one model together, each on its share of every update.

The first is the training process that everybody knows: it holds the lock, samples, keeps the books,
and starts the others, unless `accelerate launch` has started them all. What it has and the others
need it hands over. They are told apart as torch does it, by RANK and WORLD_SIZE.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pipelines.training import cores
from pipelines.training.job import DONE, FULL, PAUSED, REFUSED
from teachers.errors import TrainingError
from teachers.process import die_with_parent

if TYPE_CHECKING:
    from torch.nn import Parameter

Made = TypeVar("Made")
Meet = Callable[[str], None]
"""Waits until everybody is there; its argument is the device that they train on."""

# While the first samples and verifies, the others wait for what comes of it.
_PATIENCE = timedelta(days=1)
_FAREWELL_S = 60.0
_STARTED_BY_US = "PRECEPTOR_RANKS"


def rank() -> int:
    """Which of the processes this is; 0 is the first."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def here() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def refuse_strangers(processes: int) -> None:
    """See to it that there are as many as the job is for.

    Raises:
        TrainingError: somebody started another number.
    """
    if world() > 1 and world() != processes:
        raise TrainingError(
            f"{world()} processes were started, and train.processes is {processes}."
        )


@contextmanager
def others(module: str, folder: Path, processes: int) -> Iterator[Meet]:
    """While the first trains: the other processes, which end with it. If one dies, so does it.

    Args:
        module: what they run, with the run's folder as its argument.
        processes: how many there are to be in all.
    """
    if processes == 1:
        yield lambda device: None
        return
    with socket.socket() as door:
        place = _meeting_place(door, processes) if world() == 1 else {}
        os.environ |= place
        started = [_start(module, folder, number) for number in range(1, processes) if place]
        over = threading.Event()
        for number, one in enumerate(started, 1):
            threading.Thread(target=_watch, args=(number, one, over), daemon=True).start()
        try:
            yield lambda device: _meet(device, door.detach() if place else None)
            _part(over)
            with suppress(subprocess.TimeoutExpired):
                for one in started:
                    one.wait(_FAREWELL_S)
        finally:
            over.set()
            for one in started:
                one.kill()
            for name in place:
                del os.environ[name]
            cores.use()


def shared(make: Callable[[], Made]) -> Made:
    """What the first process makes of it, in all of them; only there is it called."""
    if world() == 1:
        return make()
    from torch.distributed import broadcast_object_list

    made: list[Any] = [None]
    if rank() == 0:
        with cores.alone():
            made[0] = make()
    broadcast_object_list(made, src=0)
    found: Made = made[0]
    return found


def gathered(mine: Made) -> list[Made]:
    """Everybody's, in the order of the processes."""
    if world() == 1:
        return [mine]
    from torch.distributed import all_gather_object

    found: list[Any] = [None] * world()
    all_gather_object(found, mine)
    return found


def add_gradients(weights: Sequence["Parameter"]) -> None:
    """Each weight's gradient becomes the sum of everybody's."""
    if world() == 1:
        return
    import torch

    found = [one.grad for one in weights if one.grad is not None]
    if not found:
        return
    flat = torch.cat([one.reshape(-1) for one in found])
    torch.distributed.all_reduce(flat)
    totals = torch.split(flat, [one.numel() for one in found])
    for one, total in zip(found, totals, strict=True):
        one.copy_(total.view_as(one))


def _meeting_place(door: socket.socket, processes: int) -> dict[str, str]:
    """Where the others find the first, which listens there already: nobody else gets that port."""
    door.bind(("127.0.0.1", 0))
    door.listen()
    place = {
        _STARTED_BY_US: "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(door.getsockname()[1]),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "RANK": "0",
        "LOCAL_RANK": "0",
    }
    # Else Gloo asks what this machine's name resolves to, which may be nothing.
    return place | ({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})


def _meet(device: str, door: int | None) -> None:
    """
    Args:
        device: `cpu` or `gpu`.
        door: the socket on which the first listens, if it has started the others.

    Raises:
        TrainingError: there are fewer GPUs than processes.
    """
    import torch
    from torch import distributed

    if device == "gpu" and torch.cuda.device_count() < here():
        raise TrainingError(
            f"train.processes is {world()}, {here()} of them on this machine, and there are "
            f"{torch.cuda.device_count()} GPUs here: one for each is needed."
        )
    how: dict[str, Any] = {"backend": "nccl" if device == "gpu" else "gloo", "timeout": _PATIENCE}
    if _STARTED_BY_US in os.environ:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        first = {"is_master": True, "master_listen_fd": door} if door is not None else {}
        store = cast("Any", distributed).TCPStore(
            address, port, world(), timeout=_PATIENCE, **first
        )
        how |= {"store": store, "rank": rank(), "world_size": world()}
    if device == "gpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(**how)


def _part(over: threading.Event) -> None:
    """Nobody leaves before all have what they came for; what is left, the first does alone."""
    from torch.distributed import barrier, destroy_process_group

    barrier()
    over.set()
    destroy_process_group()


def _start(module: str, folder: Path, number: int) -> subprocess.Popen[bytes]:
    # In the same group and with the same log: whoever kills the first kills them all.
    return subprocess.Popen(
        [sys.executable, "-u", "-m", module, str(folder)],
        env={**os.environ, "RANK": str(number), "LOCAL_RANK": str(number)},
        preexec_fn=die_with_parent(os.getpid()),
    )


def _watch(number: int, process: subprocess.Popen[bytes], over: threading.Event) -> None:
    """Die if it did, of the same: whoever waits for it would wait for ever."""
    code = process.wait()
    if over.is_set() or code == DONE:
        return
    if code not in (REFUSED, FULL, PAUSED):  # of those it has told why
        sys.stderr.write(f"Training process {number} ended with code {code}.\n")
    os._exit(code if code > 0 else 1)
