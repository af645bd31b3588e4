"""Pure functions: hyperparameters, actions, branches, step metrics, statistics, formatting, paths, liveness, seeds."""
