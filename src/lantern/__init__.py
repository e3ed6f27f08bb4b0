"""Lantern: one self-hosted server for go-to-market data and durable, streaming agents."""

__version__ = "0.1.0"
