"""A conversation with a model, one slot, scripts run live."""
