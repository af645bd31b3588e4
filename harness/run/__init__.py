"""A run: session, controller, checkpoints, start, resume, replay."""
