"""The models that come with the system, and the command that trains them."""
