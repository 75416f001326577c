"""The filter of system calls, run by a small interpreter: what it lets through on each machine."""

import errno
import re
import struct
from pathlib import Path

import pytest

from judges.verifiers import seccomp
from judges.verifiers.seccomp import MACHINES

ALLOW, KILL = 0x7FFF0000, 0x80000000
CLONE_THREAD, SIGCHLD = 0x10000, 17
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def result(machine: str, number: int, argument: int = 0, architecture: int | None = None) -> int:
    """What the kernel would do with a call, as the filter says."""
    if architecture is None:
        architecture = MACHINES[machine].architecture
    data = struct.pack("<IIQQ", number, architecture, 0, argument)
    code = [*struct.iter_unpack("=HBBI", seccomp.filter_for(machine))]
    at = loaded = 0
    while True:
        opcode, if_true, if_false, operand = code[at]
        at += 1
        if opcode == 0x20:
            (loaded,) = struct.unpack_from("<I", data, operand)
        elif opcode == 0x06:
            return int(operand)
        else:
            compare = {0x15: loaded == operand, 0x35: loaded >= operand, 0x45: loaded & operand}
            at += if_true if compare[opcode] else if_false


def failure(error: int) -> int:
    return 0x00050000 | error


@pytest.mark.parametrize("machine", MACHINES)
def test_listed_calls_fail_and_others_do_not(machine: str) -> None:
    denied = seccomp.denied(machine)
    assert {"execve", "socket", "kill", "ptrace", "unshare", "mount", "memfd_create"} <= {*denied}
    special = {*MACHINES[machine][2:], 435}
    for number in range(seccomp.FIRST_UNKNOWN):
        wanted = failure(errno.EPERM) if number in denied.values() else ALLOW
        if number not in special:
            assert result(machine, number) == wanted, number


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_that_are_decided_by_their_argument(machine: str) -> None:
    this = MACHINES[machine]
    assert result(machine, this.clone, CLONE_THREAD) == ALLOW
    assert result(machine, this.clone, SIGCHLD) == failure(errno.EPERM)
    assert result(machine, this.prlimit64, 0) == ALLOW
    assert result(machine, this.prlimit64, 1234) == failure(errno.EPERM)
    assert result(machine, this.prctl, 1) == failure(errno.EPERM)
    assert result(machine, this.prctl, 15) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_unknown_calls_do_not_exist_and_other_machines_are_killed(machine: str) -> None:
    x32 = 0x40000000 + 59
    for number in (435, 451, 100_000, x32):
        assert result(machine, number) == failure(errno.ENOSYS)
    (other,) = MACHINES.keys() - {machine}
    assert result(machine, 0, architecture=MACHINES[other].architecture) == KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    numbers = {name: int(number) for name, number in defined}
    this = MACHINES[machine]
    ours = seccomp.denied(machine)
    ours |= {"clone": this.clone, "prctl": this.prctl, "prlimit64": this.prlimit64}
    assert {name: numbers.get(name) for name in ours} == ours
