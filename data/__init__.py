"""Tables and small files that belong to no code; README.md names the source and licence of each."""
