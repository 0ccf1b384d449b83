"""Benchmarks: our forms of the model beside a literal one, the bare backbone and Transformers' peers."""
