"""Schedules: which runs are due, and making each of them once."""
