"""Child process: one job a line in, one finding a line out, for ever.

python -m judges.verifiers.worker
"""

import json
import logging
import resource
import sys
from typing import Any

from judges.records import Verification
from judges.verifiers import find, verify

MEMORY_BYTES = 4 * 1024**3
FILE_BYTES = 64 * 1024**2
CPU_S = 3600


def main() -> None:
    """Answer jobs until standard input closes. Prints `{}` once it is ready.

    A line `{"load": NAME}` is answered by `{}` when that rule has imported what it needs.
    """
    logging.disable(logging.CRITICAL)
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    # What a verifier prints must not be taken for a finding.
    out, sys.stdout = sys.stdout, sys.stderr
    print("{}", file=out, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(_load(job["load"]) if "load" in job else _found(job), file=out, flush=True)


def _load(name: str) -> str:
    try:
        find(name).load()
    except Exception as broken:  # the check will fail the same way, and that is a finding
        print(f"{name} cannot load: {broken}", file=sys.stderr)
    return "{}"


def _found(job: dict[str, Any]) -> str:
    try:
        return verify(**job).model_dump_json()
    except Exception as broken:  # out of memory, a reason that is no text: a finding all the same
        reason = ascii(f"{type(broken).__name__}: {broken}")[:300]
        return Verification(state="error", reason=reason).model_dump_json()


if __name__ == "__main__":
    main()
