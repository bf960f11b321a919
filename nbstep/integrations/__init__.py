"""What other libraries keep, for nbstep to take over."""
