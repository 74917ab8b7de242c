"""Reproduction of the paper's tables and figures: the plan, its execution, and the report."""
