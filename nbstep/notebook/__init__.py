"""The notebook's side: the magic, the cell runner, the step list, the panel."""
