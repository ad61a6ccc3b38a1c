"""What is tried on clusters."""
