"""Unit tests: no database, no broker, no network; each in milliseconds."""
