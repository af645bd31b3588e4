"""From a name to a model; generation, evaluation and memory of a model."""
