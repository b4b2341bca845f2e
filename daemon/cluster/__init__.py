"""Pipeline processes on the machines of a Ray cluster (docs/scale-out.md)."""
