"""The daemon's HTTP side: `app` answers requests, `server` owns sockets and connections."""
