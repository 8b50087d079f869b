"""The gateway: HTTP in front of engines; parses, routes, records, and calls the app."""
