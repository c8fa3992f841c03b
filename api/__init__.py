"""The HTTP service: it translates requests into store calls and rows into JSON, and decides nothing itself."""
