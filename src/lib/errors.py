"""The exceptions for things the user can mend."""


class UserError(Exception):
    """Bad input, a bad parameter or something missing on this machine.

    The message names the file, row, column or parameter and says what to do. The command
    line prints it without a traceback and ends with status 2.
    """
