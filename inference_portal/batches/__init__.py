"""Batches: one model over a data set. Each of a batch's steps is a job; this decides which step comes next."""
