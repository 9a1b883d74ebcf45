"""Flower's settings (FLOWER_CONF names this file): its login comes from a secret file or the environment."""

from workers.config import secret

basic_auth = [secret("FLOWER_BASIC_AUTH")]
if ":" not in basic_auth[0]:
    # Without a login Flower would show its pages to anyone.
    raise SystemExit("Set FLOWER_BASIC_AUTH_FILE to a file that holds user:password.")

# Looking is what Flower is for here. The queues are changed through the portal.
read_only = True
