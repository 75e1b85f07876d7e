"""The command `orc`, and `python -m orchestrator`: Ctrl-C is quiet from the first line on.

Before that line Python loads its own `site`, where nothing of ours can hold it; that takes it a few ms.
"""

import _signal  # type: ignore[import-not-found]
import os


def _stop(*_: object) -> None:
    # Nothing has begun yet, and an exception could come up anywhere in what is being imported.
    try:
        os.write(2, b"error: stopped\n")
    finally:
        os._exit(130)


_IS_TAKEN = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
"""False where Ctrl-C is ignored, as `nohup` and scripts want it in the background."""
if _IS_TAKEN:
    _signal.signal(_signal.SIGINT, _stop)


def main() -> None:
    """Run the command and end the process."""
    from orchestrator import quiet  # noqa: PLC0415
    from orchestrator.cli import main as command  # noqa: PLC0415

    if _IS_TAKEN:
        quiet.begin()
    command()


if __name__ == "__main__":
    main()
