"""Runs: the state of one, which one is active, and the log of what they asked and got."""
