"""Dropframe's daemon: a dropped video becomes a result.

The flow, in order: ``inbox`` finds files that are whole, ``intake`` turns each into a stored file, a job in
the ``store`` and an entry in the ``queue``, exactly once; ``worker`` takes the jobs first in, first out and
hands each to the ``pipeline`` process; ``outbox`` publishes what came of it. ``service`` runs them together.
"""

__version__ = "0.1.0"
