"""The exceptions for things the user can mend, and messages that a terminal only shows."""

import re

_NO_SPACE = re.compile(
    r"No space left on device|[Qq]uota exceeded|OSError: \d+ requested and \d+ written"
    r"|RuntimeError: .*(PytorchStreamWriter failed writing|unexpected pos|iostream error)"
)
"""What is said of a full disk: by the system, safetensors and pyarrow; by numpy; by torch."""
DISK_FULL = "the disk is full: free space, the same command goes on from here"


class UserError(Exception):
    """Bad input, a bad parameter or something missing on this machine.

    The message names the file, row, column or parameter and says what to do. The command
    line prints it without a traceback and ends with status 2.
    """


def is_disk_full(kind: str, message: str) -> bool:
    """Whether an error of this kind (the name of its class) means that there is no space."""
    return bool(_NO_SPACE.search(f"{kind}: {message}"))


def printable(text: str) -> str:
    """A message with names from data: what would steer a terminal is written as its escape."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode("ascii")
        for c in text
    )
