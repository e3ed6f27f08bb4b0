"""Machinery that knows no capability: database, events, nodes, timers, jobs, network, errors."""
