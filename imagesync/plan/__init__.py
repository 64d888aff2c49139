"""Planning: what the image must hold, how closely, and why."""
