"""The ready-made deployment of tasks-bridge."""
