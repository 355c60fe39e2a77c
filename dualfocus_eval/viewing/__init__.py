"""Watching a run in a browser: its report when it has ended, its progress and scores while it answers."""
