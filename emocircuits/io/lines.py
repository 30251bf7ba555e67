"""Lines of text files."""


def lines_of(text: str) -> list[str]:
    """The lines of a text file: a line feed ends them, and nothing else (JSON strings may hold the others
    that Unicode knows, such as U+2028).
    """
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
