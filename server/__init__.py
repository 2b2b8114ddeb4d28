"""The server: from a request on the wire to embeddings in the store."""
