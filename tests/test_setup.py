"""`make setup`: what it finds out, and what it says when something is missing."""

import re
import subprocess
from pathlib import Path

import pytest

from deploy import setup

ROOT = Path(__file__).resolve().parent.parent


def test_an_nvidia_driver_means_gpu(tmp_path: Path) -> None:
    assert setup.device_of(tmp_path) == "cpu"
    driver = tmp_path / "proc/driver/nvidia/version"
    driver.parent.mkdir(parents=True)
    driver.touch()
    assert setup.device_of(tmp_path) == "gpu"


def test_its_tool_alone_means_gpu_too(tmp_path: Path) -> None:
    tool = tmp_path / "usr/bin/nvidia-smi"
    tool.parent.mkdir(parents=True)
    tool.touch()
    assert setup.device_of(tmp_path) == "gpu"


def test_other_pythons_and_systems_are_refused_with_the_way_out() -> None:
    assert setup.unsupported((3, 11), "linux") is None
    assert setup.unsupported((3, 12), "linux") is None
    assert "make setup PYTHON=" in str(setup.unsupported((3, 13), "linux"))
    assert "Linux is needed" in str(setup.unsupported((3, 11), "darwin"))


def test_an_unknown_device_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert setup.main(["tpu"]) == 1
    assert "DEVICE is cpu or gpu, not 'tpu'" in capsys.readouterr().err


def apt_that(makes: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in for apt-get into an otherwise empty PATH."""
    apt = folder / "apt-get"
    apt.write_text(f'#!/bin/sh\n[ "$1" = update ] || {makes}\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_bubblewrap_is_installed_where_that_may_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap = tmp_path / "bwrap"
    apt_that(f"{{ : > {bwrap}; /bin/chmod 755 {bwrap}; }}", tmp_path, monkeypatch)
    assert "Debian: apt-get install" in setup.bring_bubblewrap(root=False)
    assert not bwrap.exists()
    assert "was installed" in setup.bring_bubblewrap(root=True)
    assert "is there" in setup.bring_bubblewrap(root=False)


def test_a_bubblewrap_that_cannot_be_had_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt_that("{ echo 'no such package' >&2; exit 100; }", tmp_path, monkeypatch)
    assert "(no such package); later: apt-get" in setup.bring_bubblewrap(root=True)


def test_the_torch_for_the_cpu_is_the_pinned_one() -> None:
    torch, project, unwanted, model = setup.steps_for("cpu")
    assert f'"{torch.arguments[1].removesuffix("+cpu")}"' in (ROOT / "pyproject.toml").read_text()
    assert project.arguments[-1].endswith("[cpu,dev]")
    assert unwanted.arguments[-3:] == setup.UNWANTED
    assert "--no-deps" in model.arguments


def test_a_gpu_needs_no_special_steps() -> None:
    project, _model = setup.steps_for("gpu")
    assert project.arguments[-1].endswith("[gpu,dev]")


@pytest.mark.parametrize(
    ("line", "doing"),
    [
        ("Collecting numpy>=1.26 (from torch==2.13.0)", "looking up numpy"),
        (
            "  Downloading torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl (190.5 MB)",
            "fetching torch-2.13.0+cpu (190.5 MB)",
        ),
        (
            "Processing /some/where/pycosat-0.6.6.tar.gz (from reasoning-gym==0.1.25)",
            "fetching pycosat-0.6.6",
        ),
        ("  Building wheel for pycosat (setup.py): started", "building pycosat"),
        ("Requirement already satisfied: numpy in /x", None),
    ],
)
def test_what_pip_says_is_put_in_a_few_words(line: str, doing: str | None) -> None:
    assert setup.activity(line) == doing


def pip_that(says: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that says something and fails."""
    pip_that_does(f"echo '{says}'\nexit 1", folder, monkeypatch)


def pip_that_does(what: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script in the place of the environment's Python."""
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\n{what}\n")
    python.chmod(0o755)
    monkeypatch.setattr(setup, "VENV", folder)
    monkeypatch.setattr(setup, "LOG", folder / "install.log")


def test_a_failure_shows_the_last_lines_and_where_the_rest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pip_that("ERROR: no luck", tmp_path, monkeypatch)
    step = setup.Step("install a thing", ("install", "a-thing"))
    with pytest.raises(setup.Stop, match=r"no luck[\s\S]*install\.log"):
        setup.Pip(step, "1/1 install a thing", lock=2).run()
    assert "1/1 install a thing: failed" in capsys.readouterr().out
    assert not (tmp_path / "tmp").exists()


def test_what_pip_removes_while_we_look_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacks = "mkdir $TMPDIR/pip-unpack-$i; : > $TMPDIR/pip-unpack-$i/wheel"
    cleans = "rm -r $TMPDIR/pip-unpack-$i"
    loop = f"for i in $(seq 300); do {unpacks}; {cleans}; done"
    pip_that_does(loop, tmp_path, monkeypatch)
    monkeypatch.setattr(setup, "POLL_S", 0)
    setup.Pip(setup.Step("install a thing", ("install", "a-thing")), "1/1", lock=2).run()


def test_a_torch_that_pip_cannot_find_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_that("ERROR: No matching distribution found for torch", tmp_path, monkeypatch)
    torch = setup.steps_for("cpu")[0]
    with pytest.raises(setup.Stop, match="PIP_EXTRA_INDEX_URL"):
        setup.Pip(torch, "1/4", lock=2).run()


def test_the_ci_script_is_sound_and_its_targets_exist() -> None:
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"setup", "demo", "test", "lint", "bench", "faults", "help"} <= targets
    assert "make $step" in script.read_text()
