"""The spec of a run: schema, loading, and what may change on a resume."""
