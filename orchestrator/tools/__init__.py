"""The built-in tools, each with typed arguments, declared effects and limits."""
