"""Computes the paper's tables and figures that need no dataset; see `python scripts/paper_tables.py --help`.

python scripts/paper_tables.py --output_dir outputs/paper_tables
python scripts/paper_tables.py --quick --sections aggregation attention
"""

from transformers_yoso.paper.command import main

if __name__ == "__main__":
    main()
