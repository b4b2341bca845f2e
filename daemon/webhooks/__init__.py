"""Telling others when a job has ended: webhooks, and a command of the operator's."""
