"""A question becomes paired experiments and a verdict. Torch-free: numbers in, result out.

What is asked: `claim` (the interface), `claims` (the article's), `tuning` (which setting an arm is judged at),
`results`, `estimand` and `margin` (one effect a seed, and how large it has to be), `guards` (whether the experiments
could answer). Nothing of it needs SciPy, so that who designs or shows a study may import it.

What is answered: `judging` and what it stands on (`intervals`, `times`, `looks`, `power`, `fractions`, `predictions`,
`reports`) import SciPy, and only the process that judges imports them.

Invariant: same results in, same verdict out, to the bit; nothing here reads a clock, a file or a random state of
others.
"""
