"""Other people's verifiers, named `module:function`.

The module is imported by the service too (so a mistake is told before anything runs): it should
import what is heavy inside the function. It may say, as constants:

    VERSION     1 if it does not; raise it whenever a verdict can change
    WHOLE       True: the function gets the whole text, not the final answer in it
    DEADLINE_S  longest one check may take, in seconds
"""

import importlib
import os
import sys
from types import ModuleType

from judges.verifiers.verifier import DEADLINE_S, Verifier
from teachers.errors import VerifierError


def find(name: str) -> Verifier:
    """The verifier that `module:function` names.

    Raises:
        VerifierError: it cannot be imported, or is not a function.
    """
    module_name, _, function = name.partition(":")
    module = _imported(module_name, name)
    check = getattr(module, function, None)
    if not callable(check):
        raise VerifierError(
            f"The verifier {name!r} is no function: {module_name} has no callable {function!r}.",
            hint="It takes (answer, reference, entry) and returns a judges.records.Verification.",
        )
    return Verifier(
        check,
        getattr(module, "VERSION", 1),
        whole=bool(getattr(module, "WHOLE", False)),
        deadline_s=float(getattr(module, "DEADLINE_S", DEADLINE_S)),
    )


def _imported(module: str, name: str) -> ModuleType:
    # A worker looks in the current folder, being started with `python -m`; so do all others.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except SystemExit as ended:
        raise VerifierError(
            f"The verifier {name!r} cannot be imported: its module ends the process while it is "
            f"imported (sys.exit({ended.code!r})).",
            hint='Put what a script does under `if __name__ == "__main__":`.',
        ) from ended
    except Exception as broken:  # whatever a stranger's module does while it is imported
        raise VerifierError(
            f"The verifier {name!r} cannot be imported: {type(broken).__name__}: {broken}",
            hint="Its module has to be installed, on PYTHONPATH or in the current folder.",
        ) from broken
