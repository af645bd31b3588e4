"""What can only be tried on a GPU, in parts: ``python -m tests.gpu --out FOLDER``."""
