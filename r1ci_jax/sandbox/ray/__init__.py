"""The sandbox on other machines, over Ray."""
