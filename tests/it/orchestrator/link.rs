//! The session link over the store and over the socket.
