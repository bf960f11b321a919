"""One step, from the call of `step` to the value: ask, take, keep, give."""
