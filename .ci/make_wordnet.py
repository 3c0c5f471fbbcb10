"""Write the lemmas of WordNet 3.0 that travel with OpenWIT, one per line, gzip. The same input gives the same bytes.

python .ci/make_wordnet.py WORDNET_DICT_FOLDER pipeline/stages/queries/wordnet-3.0.txt.gz
"""

import gzip
import sys
from pathlib import Path

from openwit.pipeline.stages.queries.sources import read_wordnet


def main() -> None:
    """Read the `dict` folder that the first argument names, write the file that the second names."""
    folder, target = map(Path, sys.argv[1:])
    lines = "".join(f"{lemma}\n" for lemma in read_wordnet(folder))
    target.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
