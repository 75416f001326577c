"""Being ended politely does what Ctrl-C does: what we started is stopped, and it says so."""

import signal


def term_interrupts() -> None:
    """From now on SIGTERM is an interrupt, also where a shell has had those ignored."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_signal: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)
