"""Which version of a model takes the requests: releases, weights, rollback."""
