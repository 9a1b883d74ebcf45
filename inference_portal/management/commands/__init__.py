"""`manage.py` commands, one file each."""
