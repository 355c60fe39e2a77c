"""The paper's tables and figures by name: the runs that each needs, and what is made of them."""

NAMES = (*(f"table{number}" for number in range(1, 12)), *(f"figure{number}" for number in range(3, 6)))
"""What `experiments.EXPERIMENTS` has, known without importing it. Figures 1, 2 and 6 to 8 are drawings and examples."""
