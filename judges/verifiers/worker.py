"""Child process: one job a line in, one finding a line out, for ever.

python -m judges.verifiers.worker
"""

import json
import logging
import resource
import sys

from judges.verifiers import verify

MEMORY_BYTES = 2 * 1024**3
CPU_S = 3600


def main() -> None:
    """Answer jobs until standard input closes. Prints `{}` once it is ready."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    # What a verifier prints must not be taken for a finding.
    out, sys.stdout = sys.stdout, sys.stderr
    verify("Answer: 1", "number", "strict", "1", {})  # imports what takes long, before the clock
    print("{}", file=out, flush=True)
    for line in sys.stdin:
        print(verify(**json.loads(line)).model_dump_json(), file=out, flush=True)


if __name__ == "__main__":
    main()
