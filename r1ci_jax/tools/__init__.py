"""Beside the method: planning for TPUs, launching on pods, the report page, chat."""
