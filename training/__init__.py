"""Train CLIP and other objectives on the shards of a WebImageText dataset.

The Python API is `openwit.training.api` (the same names as `import openwit`).
"""

import logging

# A library is silent unless its user configures logging.
logging.getLogger("openwit").addHandler(logging.NullHandler())
