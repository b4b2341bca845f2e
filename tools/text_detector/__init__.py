"""How Dropframe's own text detector is made: synthetic frames, training, evaluation.

In order: `fonts` and `words` -> `ink` -> `backgrounds`, `decoys`, `scenes`, `overlays` (with `documents`) ->
`degrade` -> `dataset` -> `train` -> `evaluate` (through `detector`). Nothing here is imported by the product.
"""
