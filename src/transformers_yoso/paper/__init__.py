"""The paper's tables and figures that need no dataset, computed and measured; run by `scripts/paper_tables.py`."""
