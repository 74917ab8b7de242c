"""The paper's tables and figures, run again like for like: what is run, how, and what is said about it."""
