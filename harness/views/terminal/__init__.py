"""The dashboard of a terminal, and lines for a pipe."""
