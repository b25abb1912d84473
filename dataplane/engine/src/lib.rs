//! The worker loop, and the sandboxed process around it.
