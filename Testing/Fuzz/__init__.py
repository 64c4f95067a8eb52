"""Seeded damage to every kind of file that users hand in, each in a process of its own: `python -m Testing.Fuzz`."""
