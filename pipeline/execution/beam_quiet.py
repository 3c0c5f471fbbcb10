"""Import Beam without the lines that it and gRPC print at import; import this before any module of Beam."""

import logging
import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
# Beam warns through the root logger, which would then get a handler that prints every message a second time.
_root, _nothing = logging.getLogger(), logging.NullHandler()
_root.addHandler(_nothing)
try:
    import apache_beam  # noqa: F401
finally:
    _root.removeHandler(_nothing)
