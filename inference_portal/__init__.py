"""The portal: takes requests, keeps the record, gives answers."""

VERSION = "0.1.0"
