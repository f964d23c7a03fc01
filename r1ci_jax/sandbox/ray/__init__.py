"""The sandbox on other machines, through Ray."""
