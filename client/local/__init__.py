"""The one-machine stack: Redis, API, relay and worker as child processes that never outlive `bnlab`."""
