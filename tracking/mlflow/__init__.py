"""MLflow: the client, the tracker, the saved view, the registry and the server."""
