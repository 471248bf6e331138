"""Sockets: the way bytes come in. The kernel's receive buffer is the only queue that may fill."""
