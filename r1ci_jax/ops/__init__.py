"""What people look at or start: reports, plans, launches."""
