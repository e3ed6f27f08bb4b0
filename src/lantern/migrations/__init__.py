"""Numbered SQL files; see lantern.core.migrate."""
