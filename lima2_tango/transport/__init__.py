"""What crosses processes: who gets which frame, and what the ranks tell each other."""
