//! What the control process and the data plane say to each other.
