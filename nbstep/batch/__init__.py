"""step.map: one step an item, dispatched by joblib or run as tasks."""
