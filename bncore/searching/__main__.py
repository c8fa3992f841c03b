"""`python -m bncore.searching`: what is asked as JSON on standard input, the proposals on standard output."""

import json
import sys

from bncore.searching.proposing import propose

if __name__ == "__main__":
    sys.stdout.buffer.write(propose(json.load(sys.stdin)))
