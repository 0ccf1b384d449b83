"""The command `yoso`.

A package beside `transformers_yoso`, as importing that one loads torch: here it is imported inside of the commands, so
that `yoso --help` answers at once.
"""
