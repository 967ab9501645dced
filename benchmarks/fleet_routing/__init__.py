"""What routers cost, and what they lose when load reports are old."""
