"""The serving template: the parts of a manifest, one file each, and how one is read."""
