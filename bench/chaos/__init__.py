"""The service while everything around it breaks: `python -m bench.chaos --seed 1 --minutes 20 --database sqlite`.

Short jobs are submitted over HTTP while a seeded script kills, stops, cuts, fills, locks and damages. Then everything
is healed, and what is left has to be what it would be had nothing happened. The order of the actions depends on the
seed alone; what they hit depends on time as well.
"""
