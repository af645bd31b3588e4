"""Alerts, notifiers and the supervisor of a run."""
