"""Groups of runs, the stages of one spec: taken, scored, compared."""
