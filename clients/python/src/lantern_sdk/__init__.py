"""Python client for the Lantern API."""
