"""What a step's code looks like now, to be compared with when its entry was kept."""
