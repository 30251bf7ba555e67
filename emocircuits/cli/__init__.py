"""The command line: parse arguments, call one function, show errors as one line."""
