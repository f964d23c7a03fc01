"""What every room shares: configuration, shapes legend, metrics files, progress."""
