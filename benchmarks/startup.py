"""How long `preceptor --help` takes, as a person waits for it: whole processes, from the outside.

    make bench NAME=startup

The ratio is its median in seconds. Beside it, interleaved, the same interpreter doing nothing: that
much no command can save.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.verdict import conclude, show

BAR_S = 0.5
RUNS = 15
WARM_UPS = 2
HELP = "preceptor --help"
COMMANDS = {
    HELP: [str(Path(sys.executable).parent / "preceptor"), "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one process, start to end."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(WARM_UPS + RUNS):
        for name, command in COMMANDS.items():
            measured = seconds(command)
            if turn >= WARM_UPS:
                taken[name].append(measured)
    rows = [
        [name, *(f"{value:.3f}" for value in (statistics.median(times), min(times), max(times)))]
        for name, times in taken.items()
    ]
    show(f"seconds from start to end, {RUNS} runs each", ["command", "median", "min", "max"], rows)
    conclude("startup", statistics.median(taken[HELP]), BAR_S, at_least=False)


if __name__ == "__main__":
    main()
