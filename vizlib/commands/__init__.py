"""The commands of vizlib, one a file: what it does and examples (its docstring), `add` its options, `run` it.

They are all imported for --help, so that nothing heavy is imported before one of them runs.
"""
