"""The exceptions for things the user can mend, and messages that a terminal only shows."""

NO_SPACE = "No space left on device"
DISK_FULL = "the disk is full: free space, the same command goes on from here"


class UserError(Exception):
    """Bad input, a bad parameter or something missing on this machine.

    The message names the file, row, column or parameter and says what to do. The command
    line prints it without a traceback and ends with status 2.
    """


def printable(text: str) -> str:
    """A message with names from data: what would steer a terminal is written as its escape."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii")
        for c in text
    )
