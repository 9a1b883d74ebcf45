"""`manage.py model …`: a file for each subcommand, with HELP, `add_arguments(parser)` and `run(**options)`."""
