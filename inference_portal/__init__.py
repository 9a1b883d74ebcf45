"""The portal: takes requests, keeps the record, gives answers."""
