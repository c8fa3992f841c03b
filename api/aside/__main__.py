"""`python -m api.aside BYTES CPU_SECONDS`: the process beside the API. Its socket is standard input."""

import sys

if __name__ == "__main__":
    from api.aside.child import serve

    serve(int(sys.argv[1]), float(sys.argv[2]))
