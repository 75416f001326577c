"""Attacks on every jail that works here. Each is contained, and told for what it is."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from judges.verifiers import jail, sandbox
from judges.verifiers.jail import TIERS, Limits, Tier
from judges.verifiers.sandbox import Outcome
from teachers.errors import VerifierError

pytestmark = pytest.mark.sandbox

QUICK = Limits(wall_s=1.5, cpu_s=3, memory_bytes=256 * 1024**2)
SLACK_S = 1.0
# Tries things, and prints a line for each: its name, and DONE or the error.
ATTEMPT = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)

def attempt(what, do, *given):
    try:
        do(*given)
        print(what, "DONE")
    except BaseException as error:
        print(what, getattr(error, "errno", None) or type(error).__name__)

def call(*given):
    if libc.syscall(*given) < 0:
        raise OSError(ctypes.get_errno(), "")
"""
CONTAINED = {"1", "2", "13", "30", "38"}
"""EPERM, ENOENT, EACCES, EROFS, ENOSYS."""


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> Tier:
    kind: Tier = request.param
    if problem := sandbox.problem_of(kind):
        pytest.skip(f"{kind}: {problem}")
    return kind


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert jailed(os.getpid()) == []


def jailed(caller: int) -> list[psutil.Process]:
    """Processes that run in a jail of this caller."""
    found = []
    for process in psutil.process_iter(["uids", "cmdline"]):
        if os.geteuid() == 0:
            ours = process.info["uids"].real == jail.FIRST_UID + caller
        else:
            ours = jail.CONFINE.read_text() in (process.info["cmdline"] or ())
        if ours:
            found.append(process)
    return found


def attack(tier: Tier, program: str, limits: Limits = QUICK) -> Outcome:
    """Run an attack; then a normal program has to work."""
    outcome = sandbox.run(textwrap.dedent(program), limits=limits, tier=tier)
    assert outcome.seconds <= limits.wall_s + SLACK_S
    assert outcome.tier == tier
    after = sandbox.run("print(sum(map(int, input().split())))", stdin="40 2", tier=tier)
    assert (after.state, after.code, after.stdout) == ("finished", 0, "42\n"), after
    return outcome


def attempts(tier: Tier, program: str) -> dict[str, str]:
    """What became of each attempt of a program that uses `attempt`."""
    outcome = attack(tier, ATTEMPT + textwrap.dedent(program))
    assert (outcome.state, outcome.code) == ("finished", 0), outcome
    said = dict(line.split() for line in outcome.stdout.splitlines())
    assert said
    return said


# --- Time, memory, output -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import os, time; os.close(1); os.close(2); time.sleep(60)",
        "import signal\nfor n in range(1, 31):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except OSError: pass\nwhile True: pass",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
        "import atexit, time; atexit.register(time.sleep, 60)",
    ],
)
def test_what_does_not_end_is_ended(tier: Tier, program: str) -> None:
    assert attack(tier, program).state == "timeout"


def test_processor_time_is_limited_for_itself(tier: Tier) -> None:
    outcome = attack(tier, "while True: pass", QUICK._replace(cpu_s=1, wall_s=20))
    assert outcome.state == "timeout"
    assert outcome.code == 128 + signal.SIGXCPU


@pytest.mark.parametrize(
    "program",
    [
        "bytearray(10 * 1024**3)",
        "kept = []\nwhile True: kept.append(bytearray(10**6))",
        "import mmap\ntry: mmap.mmap(-1, 10 * 1024**3)\nexcept OSError: raise MemoryError",
    ],
)
def test_memory_is_limited(tier: Tier, program: str) -> None:
    outcome = attack(tier, program)
    assert outcome.state == "memory"
    assert "MemoryError" in outcome.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_endless_output_is_cut_off(tier: Tier, stream: str) -> None:
    outcome = attack(tier, f"import sys\nwhile True: sys.{stream}.write('x' * 4096)")
    assert outcome.state == "output"
    assert len(getattr(outcome, stream)) == QUICK.output_bytes


def test_huge_files_and_many_of_them(tier: Tier) -> None:
    said = attempts(
        tier,
        """
        def one():
            with open("/tmp/huge", "wb") as file:
                for _ in range(1024): file.write(bytes(1024 * 1024))
        def many():
            for number in range(1024):
                with open(f"/tmp/{number}", "wb") as file: file.write(bytes(1024 * 1024))
        attempt("one", one)
        attempt("many", many)
        attempt("memfd", os.memfd_create, "hidden")
        """,
    )
    too_large, full = ("27", "28") if tier == "bubblewrap" else ("13", "13")
    assert said == {"one": too_large, "many": full, "memfd": "1"}


# --- Processes ----------------------------------------------------------------------------------


def test_no_process_can_be_made(tier: Tier) -> None:
    said = attempts(
        tier,
        """
        import multiprocessing, platform, subprocess
        attempt("fork", os.fork)
        attempt("forkpty", os.forkpty)
        attempt("spawn", os.posix_spawn, sys.executable, [sys.executable], {})
        attempt("subprocess", subprocess.run, ["/bin/true"])
        attempt("system", lambda: os.system("true") and 1 / 0)
        attempt("exec", os.execv, sys.executable, [sys.executable, "-c", "print(1)"])
        if platform.machine() == "x86_64":
            attempt("fork-call", call, 57)
            attempt("vfork-call", call, 58)
            attempt("clone-call", call, 56, 17, 0, 0, 0, 0)
        attempt("clone3-call", call, 435, ctypes.create_string_buffer(88), 88)
        """,
    )
    assert said.pop("system") == "ZeroDivisionError"  # the shell did not start
    assert set(said.values()) <= CONTAINED, said


def test_a_fork_bomb_is_a_busy_loop(tier: Tier) -> None:
    bomb = """
        import os
        while True:
            try: os.fork()
            except OSError: pass
    """
    assert attack(tier, bomb).state == "timeout"


def test_threads_work_and_are_limited(tier: Tier) -> None:
    some = "from concurrent.futures import ThreadPoolExecutor as Pool\n"
    some += "with Pool(8) as pool: print(sum(pool.map(abs, range(100))))"
    assert attack(tier, some).stdout == "4950\n"
    many = """
        import threading, time
        threading.stack_size(64 * 1024)
        for number in range(5000):
            try: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            except RuntimeError: break
        print(number)
    """
    if tier == "bubblewrap" or os.geteuid() == 0:
        assert int(attack(tier, many).stdout) < QUICK.threads


def test_nobody_can_be_signalled_traced_or_read(tier: Tier) -> None:
    said = attempts(
        tier,
        f"""
        import signal
        us = {os.getpid()}
        for target in (us, os.getppid(), 1, -1, 0):
            attempt(f"kill:{{target}}", os.kill, target, signal.SIGKILL)
        attempt("group", os.killpg, os.getpgid(0), signal.SIGKILL)
        attempt("pidfd", os.pidfd_open, os.getppid())
        attempt("session", os.setsid)
        attempt("nice", os.setpriority, os.PRIO_PROCESS, os.getppid(), 19)
        attempt("limits", __import__("resource").prlimit, us, 7, (0, 0))
        for name, number in (("ptrace", 101), ("vm_readv", 310), ("vm_writev", 311)):
            if os.uname().machine == "x86_64":
                attempt(name, call, number, 16, os.getppid(), 0, 0)
        """,
    )
    assert set(said.values()) <= CONTAINED, said


def test_what_was_given_up_stays_given_up(tier: Tier) -> None:
    said = attempts(
        tier,
        """
        import resource
        attempt("memory", resource.setrlimit, resource.RLIMIT_AS, (2**40, 2**40))
        attempt("root", os.setuid, 0)
        attempt("death-signal", lambda: libc.prctl(1, 0) and 1 / 0)
        attempt("user-namespace", lambda: libc.unshare(0x10000000) and 1 / 0)
        attempt("mount", lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, 0) and 1 / 0)
        attempt("chroot", os.chroot, "/tmp")
        attempt("io_uring", call, 425, 8, ctypes.create_string_buffer(256))
        """,
    )
    contained = CONTAINED | {"ValueError", "ZeroDivisionError"}
    assert set(said.values()) <= contained, said
    assert attack(tier, "import os; print(os.getuid())").stdout != "0\n"


@pytest.mark.fault
def test_a_jail_ends_with_the_process_that_made_it(tier: Tier) -> None:
    program = f"""if True:
        from judges.verifiers import sandbox
        from judges.verifiers.jail import Limits
        sleep = "import sys, time; print('up', flush=True); time.sleep(60)"
        print("up", flush=True)
        sandbox.run(sleep, limits=Limits(wall_s=60), tier={tier!r})"""
    caller = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        inside = until_jailed(caller.pid)
    finally:
        caller.kill()
        caller.communicate()
    assert inside
    assert psutil.wait_procs(inside, timeout=5)[1] == []


def until_jailed(caller: int) -> list[psutil.Process]:
    for _ in range(200):
        if found := jailed(caller):
            return found
        psutil.Process(caller).cpu_times()
        try:
            psutil.Process(caller).wait(0.05)
        except psutil.TimeoutExpired:
            continue
    return []


# --- Files, environment, network ----------------------------------------------------------------


def test_no_file_or_key_of_ours_can_be_read(
    tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMEBODYS_API_KEY", "key-to-be-kept")
    store = tmp_path / "store.db"
    store.write_text("row-to-be-kept")
    for folder in (store, *store.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    outcome = attack(
        tier,
        f"""
        import glob, os
        print(os.environ)
        places = [{str(store)!r}, {__file__!r}, "/etc/passwd", "/etc/shadow", "/proc/1/environ"]
        places += ["/proc/self/environ", "/proc/{os.getpid()}/environ", "/proc/self/mem"]
        places += ["/proc/self/cwd/../etc/passwd", *glob.glob({str(Path.home())!r} + "/.*")]
        for place in places:
            for link in (None, os.symlink, os.link):
                try:
                    if link: link(place, "trick"); place = "trick"
                    print("READ", place, open(place).read())
                except OSError: pass
                if link and os.path.lexists("trick"): os.remove("trick")
        """,
    )
    assert outcome.code == 0, outcome.stderr
    assert "READ" not in outcome.stdout
    assert "to-be-kept" not in outcome.stdout
    names = {line.split("'")[1] for line in outcome.stdout.split(",")}
    assert names <= {"PYTHONHASHSEED", "MALLOC_ARENA_MAX", "LC_CTYPE", "PWD"}


def test_nothing_can_be_written_outside(tier: Tier, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    said = attempts(
        tier,
        f"""
        for place in ({str(tmp_path)!r}, "/", "/etc", "/usr/lib", "/dev", "/dev/shm", "/var/tmp"):
            attempt(place, open, place + "/written", "w")
        attempt("device", os.mknod, "device", 0o20666, os.makedev(1, 1))
        attempt("library", os.chmod, os.__file__, os.stat(os.__file__).st_mode)
        """,
    )
    assert set(said.values()) <= CONTAINED, said
    assert [*tmp_path.iterdir()] == []


def test_there_is_no_network(tier: Tier) -> None:
    name = f"\0preceptor-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(name)
        local.listen()
        said = attempts(
            tier,
            f"""
            import asyncio, socket
            def to(family, kind, address): socket.socket(family, kind).connect(address)
            port = {tcp.getsockname()[1]}
            attempt("tcp", to, socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", port))
            attempt("udp", to, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", port))
            attempt("tcp6", to, socket.AF_INET6, socket.SOCK_STREAM, ("::1", port))
            attempt("abstract", to, socket.AF_UNIX, socket.SOCK_STREAM, {name!r})
            attempt("netlink", socket.socket, socket.AF_NETLINK, socket.SOCK_RAW)
            asyncio.run(asyncio.sleep(0))
            """,
        )
    assert set(said.values()) == {"1"}


def test_no_descriptor_of_ours_is_open(tier: Tier) -> None:
    program = """
        import os
        def is_open(descriptor):
            try: os.fstat(descriptor)
            except OSError: return False
            return True
        print([descriptor for descriptor in range(64) if is_open(descriptor)])
    """
    with open(__file__) as held:
        os.set_inheritable(held.fileno(), True)
        assert attack(tier, program).stdout == "[0, 1, 2]\n"


# --- Normal use ---------------------------------------------------------------------------------


def test_input_files_output_and_exit_code(tier: Tier) -> None:
    program = "import sys\nprint(input(), open('a.txt').read())\nsys.exit('no more')"
    outcome = sandbox.run(program, stdin="hé\n", files={"a.txt": "ß"}, tier=tier)
    assert outcome[:4] == ("finished", 1, "hé ß\n", "no more\n")


def test_a_large_input_is_no_deadlock(tier: Tier) -> None:
    program = "import sys; print('x' * 500_000); print(len(sys.stdin.read()))"
    assert sandbox.run(program, stdin="y" * 3_000_000, tier=tier).stdout.endswith("\n3000000\n")


def test_a_crash_is_told_by_its_signal(tier: Tier) -> None:
    outcome = attack(tier, "import ctypes; ctypes.string_at(0)")
    assert (outcome.state, outcome.code) == ("killed", 128 + signal.SIGSEGV)


def test_what_is_no_program_ends_with_its_error(tier: Tier) -> None:
    outcome = attack(tier, "def f(:")
    assert (outcome.state, outcome.code) == ("finished", 1)
    assert "SyntaxError" in outcome.stderr


def test_the_same_order_of_sets_every_time(tier: Tier) -> None:
    program = "print({*'abcdefgh'})"
    assert len({sandbox.run(program, tier=tier).stdout for _ in range(3)}) == 1


def test_a_file_may_not_be_a_path(tier: Tier) -> None:
    with pytest.raises(ValueError, match="without folders"):
        sandbox.run("", files={"../a": ""}, tier=tier)


def test_it_works_from_a_verifiers_worker(tier: Tier) -> None:
    code = f"""if True:
        import resource
        from judges.verifiers import sandbox, worker
        resource.setrlimit(resource.RLIMIT_AS, (worker.MEMORY_BYTES, worker.MEMORY_BYTES))
        print(sandbox.run("print(42)", tier={tier!r}).stdout, end="")"""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    child = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True)
    assert child.stdout == "42\n", child.stderr


# --- Which jail ---------------------------------------------------------------------------------


@pytest.fixture
def forgotten() -> Iterator[None]:
    sandbox.best_tier.cache_clear()
    yield
    sandbox.best_tier.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_without_bubblewrap_landlock_is_used_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if problem := sandbox.problem_of("landlock"):
        pytest.skip(problem)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sandbox.problem_of("bubblewrap") == "bwrap is not installed"
    assert sandbox.run("print(1)").tier == "landlock"


@pytest.mark.usefixtures("forgotten")
def test_a_bubblewrap_that_does_not_work_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sandbox.problem_of("bubblewrap") == "No permissions to create new namespace"
    monkeypatch.setattr(sandbox, "TIERS", ("bubblewrap",))
    with pytest.raises(VerifierError, match="cannot be run safely") as refused:
        sandbox.run("print(1)")
    assert "No permissions" in refused.value.message
    assert "apt install bubblewrap" in refused.value.hint


@pytest.mark.usefixtures("forgotten")
def test_an_unknown_processor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(VerifierError, match="no filter of system calls for riscv64"):
        sandbox.run("print(1)")
