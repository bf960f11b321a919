"""What a run of a cell would do, told without running it."""
