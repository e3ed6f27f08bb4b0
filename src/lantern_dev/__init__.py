"""Peers to develop and test against: servers that behave like the outside world."""
