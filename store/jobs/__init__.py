"""The queue kernel: jobs, their leases, their log and their bells, whatever they are about.

Invariant: nothing here reads or writes a table of a job's subject; `store.work` knows the kinds. Whoever holds the
token of a lease writes, and every write begins with the guarded renewal.
"""
