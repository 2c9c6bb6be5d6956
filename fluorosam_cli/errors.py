"""The one exception a user is meant to read."""


class FluoroError(Exception):
    """Something the user can act on: what is wrong, and one thing to do about it.

    `problem` reads `subject: what is wrong, with the value found and the one expected`, lower case;
    `hint` names one action, ideally a command to paste. `cli.py` prints both and exits with `exit_code`.
    """

    exit_code = 1

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


class UsageError(FluoroError):
    """The command line itself is wrong (exit code 2): an unknown name, options that contradict each other."""

    exit_code = 2
