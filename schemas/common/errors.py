"""The error a user sees: one sentence that names the culprit and the remedy, and exit code 2."""


class UserError(ValueError):
    """Bad input. The message is one sentence for the user; the commands print it and exit with code 2."""


class SchemaError(UserError):
    """A table does not have the schema its stage promised; the message names the table and the column."""
