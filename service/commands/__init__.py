"""The commands that the service adds to `intff`, one file each."""
