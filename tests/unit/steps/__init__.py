"""The steps of a batch, with models that were really trained and files that are really there."""
