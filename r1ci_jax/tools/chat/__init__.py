"""A conversation with a model in one slot; the scripts run during the answer."""
