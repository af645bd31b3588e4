"""Pure functions: knobs, actions, branches, step metrics, statistics, formatting, paths, liveness, seeds."""
