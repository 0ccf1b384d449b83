"""Measures speed, memory and agreement of every form of the model; see `python scripts/benchmark.py --help`.

python scripts/benchmark.py --output_dir outputs/benchmark
python scripts/benchmark.py --device cuda --output_dir outputs/benchmark_gpu
"""

from transformers_yoso.benchmark.command import main

if __name__ == "__main__":
    main()
