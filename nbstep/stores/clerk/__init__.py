"""A process that does the work on a cache's folder while a `step.map` computes very many quick items (see `desk.py`)."""
