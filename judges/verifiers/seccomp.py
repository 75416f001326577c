"""The filter of system calls that every jailed program runs under, as the kernel reads it.

It is classic BPF: a list of 8-byte instructions that see a call's number and arguments and return
what becomes of it. Calls that are listed in `syscalls.txt` fail with EPERM; a call that is newer
than this file fails with ENOSYS, as on an older kernel, and so does clone3, whose flags a filter
cannot see (libraries then fall back to clone).
"""

import errno
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

DENIED = Path(__file__).with_name("syscalls.txt")
FIRST_UNKNOWN = 451
"""Calls have the same numbers on all machines from 424 on. The x32 calls of x86_64, a second set
of numbers for the same things, lie above this too."""

_CLONE3 = 435
_CLONE_THREAD = 0x10000
_PR_SET_PDEATHSIG = 1
# Offsets into struct seccomp_data; both machines are little-endian, so a low word comes first.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
# Opcodes: load a word; jump if equal, greater or equal, any bit set; return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_FAIL = 0x00050000
_KILL = 0x80000000


class Machine(NamedTuple):
    """What differs between processors."""

    column: int
    """Of `syscalls.txt`."""
    architecture: int
    """The kernel's AUDIT_ARCH."""
    clone: int
    prctl: int
    prlimit64: int


MACHINES = {
    "x86_64": Machine(1, 0xC000003E, clone=56, prctl=157, prlimit64=302),
    "aarch64": Machine(2, 0xC00000B7, clone=220, prctl=167, prlimit64=261),
}


def filter_for(machine: str) -> bytes:
    """The filter for a processor, as `platform.machine()` names it.

    Raises:
        KeyError: there is none for this processor.
    """
    this = MACHINES[machine]
    code = [
        *(_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, this.architecture, 1, 0), _end(_KILL)),
        *(_step(_LOAD, _NUMBER), _step(_AT_LEAST, FIRST_UNKNOWN, 0, 1), _end(_fail(errno.ENOSYS))),
        *(_step(_EQUAL, _CLONE3, 0, 1), _end(_fail(errno.ENOSYS))),
    ]
    for number in denied(machine).values():
        code += [_step(_EQUAL, number, 0, 1), _end(_fail(errno.EPERM))]
    # Threads, but no processes; its parent's death signal stays set; limits of nobody else.
    code += _only_if(this.clone, _step(_ANY_BIT, _CLONE_THREAD, 0, 1))
    code += _only_if(this.prctl, _step(_EQUAL, _PR_SET_PDEATHSIG, 1, 0))
    code += _only_if(this.prlimit64, _step(_EQUAL, 0, 0, 1))
    return b"".join([*code, _end(_ALLOW)])


def denied(machine: str) -> dict[str, int]:
    """The calls that fail with EPERM, whatever their arguments: name -> number."""
    column = MACHINES[machine].column
    rows = [line.split() for line in DENIED.read_text().splitlines() if line[:1] not in ("", "#")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def _only_if(number: int, test: bytes) -> Sequence[bytes]:
    """Decide a call by the low word of its first argument: the test jumps 0 to allow, 1 to fail."""
    load, allow, fail = _step(_LOAD, _FIRST_ARGUMENT), _end(_ALLOW), _end(_fail(errno.EPERM))
    return [_step(_EQUAL, number, 0, 4), load, test, allow, fail]


def _step(opcode: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; jumps count the instructions to skip."""
    return struct.pack("=HBBI", opcode, if_true, if_false, operand)


def _end(result: int) -> bytes:
    return _step(_RETURN, result)


def _fail(error: int) -> int:
    return _FAIL | error
