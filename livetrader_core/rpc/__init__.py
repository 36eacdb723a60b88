"""The wire: ZeroMQ sockets and MessagePack bodies."""
