"""Benchmarks that anyone can run: ``python -m benchmarks`` prints every table, ``python -m benchmarks NAME`` one.

Speeds are ratios of medians, measured side by side in one run; absolute figures differ from machine to machine.
"""
