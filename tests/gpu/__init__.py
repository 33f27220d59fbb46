"""What only a card can show. Needs an NVIDIA card; no part of the suite."""
