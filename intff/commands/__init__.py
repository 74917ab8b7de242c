"""The commands that need no server: train, predict, evaluate and reproduce."""
