"""``python -m daemon`` is the ``dropframe`` command."""

from daemon.cli import main

main()
