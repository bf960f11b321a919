"""What can be asked of a cache: one table of verbs, and the rows, tables and details they show."""
