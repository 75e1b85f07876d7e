"""`python -m orchestrator.cli` is the command `orc`."""

from orchestrator.cli import main

main()
