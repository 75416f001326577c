"""The same arithmetic, arranged for a CPU: libraries arrange it for a GPU."""
