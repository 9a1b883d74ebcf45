"""Making a version of a model: from a CSV, from a model file, from an example's data set.

In a process of its own (`python -m workers.making`): it trains, so it runs XGBoost, which the portal never does.
"""
