"""``python -m daemon`` is the ``dropframe`` command."""

from daemon.cli.main import main

main()
