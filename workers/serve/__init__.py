"""One model as a server of its own, over the same code that the workers run: `python -m workers.serve --model wine`."""
