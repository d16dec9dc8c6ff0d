"""CaiT as other libraries name, configure and open it."""
