"""What trains: workers that claim experiments and supervise trainer processes, and the relay that wakes them.

Nothing here imports torch; only the trainer process does. The rows of the database are the queue, a Celery message is a
doorbell, and whoever writes for an experiment holds its lease.
"""
