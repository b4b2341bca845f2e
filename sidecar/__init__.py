"""Dropframe's sidecar: submit, status and results over HTTP, in a process of its own beside the daemon."""
