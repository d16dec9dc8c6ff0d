"""What a run computes on: processes, devices and their memory."""
