"""Demonstrations from others: an endpoint that is asked, conversations that are imported."""
