"""What training plans and gradients cost, before anything runs."""
