"""The command line: one table of commands; each calls one function and shows errors as one line."""
