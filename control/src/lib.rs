//! The control process: configuration, eBPF, descriptors, supervision.
